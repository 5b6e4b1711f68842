"""docs/reference/cli.md says what there is: its settings can be loaded, its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

from posthouse.cli.main import COMMANDS
from posthouse.runtime.settings import load

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text()


def test_the_settings_of_the_page_can_be_loaded(tmp_path: Path):
    [settings] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "posthouse.toml"
    file.write_text(settings)

    loaded = load(file, environ={"GITHUB_SECRET": "x"})

    assert (loaded.env, loaded.service("prices").capacity) == ("prod", 10_000)


def test_every_command_is_on_the_page():
    listed = set(re.findall(r"^\| `(\w+)", PAGE, re.MULTILINE))

    assert {name for name, command in COMMANDS.items() if not command.hidden} <= listed
