"""A posthouse.toml beside a program that is not the one that is read: the person is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.cli_program import posthouse

pytestmark = pytest.mark.system

APP = """
from posthouse import Service

home = Service("home")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "app.py").write_text(APP)
    (tmp_path / "sub" / "posthouse.toml").touch()
    return tmp_path


def test_a_file_that_would_be_missed_is_named(place: Path):
    told = posthouse("check", "sub/app.py", cwd=place).err

    assert f"{place}/sub/posthouse.toml is not read: cd to it" in told


def test_and_so_is_the_one_that_is_read_instead(place: Path):
    (place / "posthouse.toml").touch()

    told = posthouse("check", "sub/app.py", cwd=place).err

    assert f"{place}/sub/posthouse.toml is not read, {place}/posthouse.toml is" in told


def test_nothing_is_said_where_it_is_read(place: Path):
    assert posthouse("check", "app.py", cwd=place / "sub").err == ""
    assert posthouse("check", "sub/app.py", "--config", "sub/posthouse.toml", cwd=place).err == ""
