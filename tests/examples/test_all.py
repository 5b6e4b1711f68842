"""Every example is tested, and `posthouse check` has nothing to say about any."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.cli_program import posthouse

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(str(app.relative_to(EXAMPLES)) for app in EXAMPLES.rglob("app.py"))


def test_every_example_has_its_test():
    folders = {folder.name for folder in EXAMPLES.iterdir() if list(folder.glob("*.py"))}

    assert folders == {Path(program).parent.name for program in PROGRAMS}
    assert all(Path(__file__).with_name(f"test_{name}.py").exists() for name in folders)


@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_is_found_in_an_example(program: str, tmp_path: Path):
    app = EXAMPLES / program
    config = app.with_name("posthouse.toml")
    flags = ["--config", str(config)] if config.exists() else []

    checked = posthouse("check", str(app), "--data", str(tmp_path), *flags, cwd=tmp_path)

    assert checked.status == 0, checked.out + checked.err
