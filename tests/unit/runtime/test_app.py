"""What a user names on the command line becomes services, or an error that says file and line."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from posthouse.errors import ApplicationError, DeclarationError, IllegalNameError, PosthouseError
from posthouse.runtime.app import load_all, load_app

TWO = """
    from posthouse.declare.service import Service
    shop, till = Service("shop"), Service("cash-desk")
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions of a file within one second
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    return path


def names(target: str) -> list[str]:
    return [service.name for service in load_app(target)]


def error_of(target: str) -> PosthouseError:
    with pytest.raises(PosthouseError) as raised:
        load_app(target)
    return raised.value


def test_a_file_gives_all_its_services_in_order(here: Path):
    write(here / "app.py", TWO)

    assert names("app.py") == ["shop", "cash-desk"]


def test_a_variable_or_a_services_own_name_chooses_one(here: Path):
    write(here / "app.py", TWO)

    assert names("app.py:till") == ["cash-desk"]
    assert names("app.py:cash-desk") == ["cash-desk"]


def test_a_module_is_found_from_the_working_directory(here: Path):
    write(here / "place" / "__init__.py", "")
    write(here / "place" / "app.py", TWO)

    assert names("place.app") == ["shop", "cash-desk"]
    assert names("place.app:shop") == ["shop"]


def test_a_file_within_a_package_may_import_relatively(here: Path):
    write(here / "place" / "__init__.py", "")
    write(here / "place" / "parts.py", TWO)
    write(here / "place" / "app.py", "from .parts import shop")

    assert names("place/app.py") == ["shop"]


def test_files_beside_the_program_share_its_services(here: Path):
    write(here / "deep" / "main_app.py", TWO + "\n    import other_part")
    write(here / "deep" / "other_part.py", "from main_app import shop as own")

    services = load_app("deep/main_app.py")

    assert sys.modules["other_part"].own is services[0]


@pytest.mark.parametrize("name", ["json.py", "logging.py", "my-app.py", "posthouse.py"])
def test_a_file_may_have_the_name_of_a_module_that_is_loaded_or_none_at_all(here: Path, name: str):
    write(here / name, TWO)

    assert names(name) == ["shop", "cash-desk"]


def test_one_service_named_twice_is_served_once(here: Path):
    write(here / "app.py", TWO)

    assert [service.name for service in load_all(["app.py:shop", "app.py", "./app.py"])] == ["shop", "cash-desk"]


def test_two_services_of_one_name_are_refused(here: Path):
    write(here / "app.py", TWO + '\n    other = Service("shop")')

    assert "two services are named 'shop'" in str(error_of("app.py"))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("ap.py", "there is no file ap.py (did you mean 'app.py'?)"),
        ("nowhere/app.py", "there is no file nowhere/app.py"),
        ("app.py:shopp", "has no service 'shopp' (did you mean 'shop'?)"),
        ("app.py:Service", "app.py:Service is no Service"),
        ("app.py:", "names no program"),
        ("", "names no program"),
        ("no_such.module", "there is no module 'no_such'"),
        ("./", "is a directory"),
    ],
)
def test_what_is_not_there_is_said(here: Path, target: str, says: str):
    write(here / "app.py", TWO)

    error = error_of(target)

    assert isinstance(error, ApplicationError)
    assert says in str(error)


@pytest.mark.parametrize(
    ("program", "line", "says"),
    [
        ("x = 1\ndef (:\n", 2, "SyntaxError"),
        ("\n\nimport no_such_thing\n", 3, "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def f():\n    return 1 / 0\nf()\n", 2, "ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", 2, "it ended the process (exit 3)"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
        ("import beside_it\n", 0, "ValueError: from beside"),
    ],
)
def test_an_import_that_fails_names_the_users_own_line(here: Path, program: str, line: int, says: str):
    beside = write(here / "beside_it.py", "\n\n\nraise ValueError('from beside')\n")
    file = write(here / "app.py", program)

    error = error_of("app.py")

    assert isinstance(error, ApplicationError)
    where = f"{file}:{line}: " if line else f"{beside}:4: "
    assert str(error).startswith(where)
    assert says in str(error)
    assert "Traceback" not in str(error)


def test_a_program_without_a_service_is_told_how_to_declare_one(here: Path):
    write(here / "app.py", "x = 1")

    error = error_of("app.py")

    assert "declares no service" in str(error)
    assert "Service(" in error.hint


def test_a_handler_without_annotations_is_told_where_it_stands(here: Path):
    write(here / "app.py", TWO + "\n    @shop.handler\n    async def buy(order): ...\n")

    error = error_of("app.py")

    assert isinstance(error, DeclarationError)
    assert f"{here / 'app.py'}:5" in str(error)


def test_an_illegal_name_says_its_line(here: Path):
    file = write(here / "app.py", 'from posthouse.declare.service import Service\nshop = Service("no name")\n')

    error = error_of("app.py")

    assert isinstance(error, IllegalNameError)
    assert str(error).startswith(f"{file}:2: ")


@pytest.mark.parametrize("name", ["app.py", "json.py"])
def test_a_program_that_failed_can_be_loaded_once_it_is_mended(here: Path, name: str):
    write(here / name, "import not_there")
    error_of(name)
    write(here / name, TWO)

    assert names(name) == ["shop", "cash-desk"]
