"""Which changes start a program anew, and which do not."""

from __future__ import annotations

import os
import py_compile
from pathlib import Path

import pytest

from posthouse.cli import watch
from posthouse.cli.watch import Watch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text("x = 1")
    return tmp_path


def test_nothing_changed_is_nothing(folder: Path):
    assert Watch(folder).look() == []


def test_a_changed_a_new_and_a_removed_file_are_seen_once(folder: Path):
    (folder / "old.py").touch()
    watched = Watch(folder)

    (folder / "app.py").write_text("x = 22")
    (folder / "deep").mkdir()
    (folder / "deep" / "new.py").touch()
    (folder / "old.py").unlink()

    assert watched.look() == ["app.py", "deep/new.py", "old.py"]
    assert watched.look() == []


def test_a_file_that_was_replaced_within_one_tick_of_the_clock_is_seen(folder: Path):
    file = folder / "app.py"
    before = file.stat()
    watched = Watch(folder)

    (folder / "app.tmp").write_text("x = 2")
    os.utime(folder / "app.tmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "app.tmp").replace(file)

    assert watched.look() == ["app.py"]


def test_the_configuration_is_watched_also_where_it_lies_above(tmp_path: Path):
    (tmp_path / "app").mkdir()
    config = tmp_path / "posthouse.toml"
    config.touch()
    watched = Watch(tmp_path / "app", also=[config])

    config.write_text("grace = 1")

    assert watched.look() == ["../posthouse.toml"]


@pytest.mark.parametrize("name", ["notes.txt", ".hidden/a.py", "__pycache__/a.py", "node_modules/a.py", "env/lib/a.py"])
def test_what_others_made_is_not_looked_at(folder: Path, name: str):
    (folder / "env").mkdir()
    (folder / "env" / "pyvenv.cfg").touch()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    watched = Watch(folder)

    (folder / name).write_text("new")

    assert watched.look() == []


def test_a_huge_folder_is_not_read_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watch, "MOST", 3)
    for number in range(10):
        (folder / f"{number}.py").touch()

    assert len(Watch(folder)._snapshot()) == 3


def test_what_was_compiled_of_a_changed_file_is_not_taken_for_it(folder: Path):
    file = folder / "app.py"
    compiled = Path(py_compile.compile(str(file), doraise=True) or "")
    watched = Watch(folder)
    assert compiled.is_file()

    file.write_text("x = 2")  # as long, and within the same second, as far as Python looks
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))

    assert watched.look() == ["app.py"]
    assert not compiled.exists()
