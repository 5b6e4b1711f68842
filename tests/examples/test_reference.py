"""The reference says what is there: every setting with its default, every error, every command, no more."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import pytest

from posthouse.cli.main import COMMANDS, cli
from posthouse.errors import ConfigError, every_error
from posthouse.message.message import Lane, Message
from posthouse.runtime import settings
from posthouse.runtime.settings import (
    GatewaySettings,
    RouteSettings,
    ServiceSettings,
    Settings,
    SignatureSettings,
)
from posthouse.runtime.steps.wire import Word

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def rows_under(page: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the table below a heading, by the key in their first cell."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    section = re.split(r"\n#+ ", rest)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): row for row in rows}


@pytest.mark.parametrize(
    ("kind", "heading", "path"),
    [
        (Settings, "## At the top", ()),
        (GatewaySettings, "## `[gateway]`", ("gateway",)),
        (ServiceSettings, "## `[services.NAME]`", None),
        (RouteSettings, '## `[routes."METHOD /path"]`', None),
        (SignatureSettings, "### `signature`", None),
    ],
)
def test_every_setting_is_there_with_its_default_and_its_variable(
    kind: type[msgspec.Struct], heading: str, path: tuple[str, ...] | None
):
    fields = {
        field.encode_name: field
        for field in msgspec.structs.fields(kind)
        if not (kind is Settings and field.encode_name in {"gateway", "services", "routes"})
    }

    rows = rows_under("configuration.md", heading)

    assert set(rows) == set(fields)
    for name, field in fields.items():
        default: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory
        default = default() if callable(default) else default
        said = rows[name][1]
        if re.fullmatch(r"`[^`]+`", said):
            assert tomllib.loads(f"value = {said.strip('`')}")["value"] == default, f"{name} has another default"
        else:
            assert default in (None, "", msgspec.NODEFAULT), f"{name} has a default, which is not told: {default!r}"
        if path is not None:
            variable = settings.PREFIX + "_".join((*path, name)).upper()
            assert rows[name][2] == f"`{variable}`"


def test_the_example_of_a_configuration_is_one(tmp_path: Path):
    text = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "posthouse.toml"
    file.write_text(example)

    found = settings.load(file, environ={})

    assert (found.env, found.transport, found.grace) == ("prod", "sqlite:/var/lib/tea", 20.0)


def test_every_error_is_there_and_no_other():
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if re.match(r"\| `", line)
    ]

    told = {(row[0].strip("`"), row[1].strip("`"), row[2]) for row in rows if len(row) == 4}

    assert told == {
        (kind.code, kind.__name__, "-" if issubclass(kind, ConfigError) else str(kind.status)) for kind in every_error()
    }


def test_every_command_is_there_and_no_other():
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")

    headings = set(re.findall(r"^## `posthouse (\w+)", text, re.MULTILINE))

    assert headings == {name for name, command in COMMANDS.items() if not command.hidden}


@pytest.mark.parametrize("command", [name for name, command in COMMANDS.items() if not command.hidden])
def test_every_option_of_a_command_is_there(command: str):
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    common = {"--json", "--data", "--transport", "--config", "--env", "--debug"}
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    group = [found, *found.commands.values()] if isinstance(found, click.Group) else [found]
    section = re.split(r"\n## ", text.partition(f"\n## `posthouse {command}")[2])[0]

    asked = {option for each in group for parameter in each.params for option in parameter.opts if option[:2] == "--"}

    assert asked - common <= set(re.findall(r"--[a-z-]+", section))
    assert common <= set(re.findall(r"--[a-z-]+", text))


def test_the_fields_of_a_message_are_there_in_the_order_of_the_frame():
    rows = rows_under("wire.md", "## The message")

    assert list(rows) == [field.name for field in msgspec.structs.fields(Message)]


def test_the_stamps_of_journaled_delivery_and_its_words_are_there():
    stamps = rows_under("wire.md", "## The stamps of journaled delivery")
    words = rows_under("wire.md", "### What travels with them")

    assert list(stamps) == [field.name for field in msgspec.structs.fields(Lane)]
    assert set(words) == set(get_args(Word))
