"""What is explained is what can be raised: no code is left out, and none is explained that nothing has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import posthouse
from posthouse.cli.explain import OTHERS
from posthouse.errors import PosthouseError, every_error

SOURCE = Path(posthouse.__file__).parent
ERRORS = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"
CODES = {kind.code for kind in every_error()}

BY_ORDER = {"Finding": 0, "Refusal": 0, "Rejected": 1, "Complaint": 0}
"""What is given a code, and where, when it is not named."""


def trees() -> Iterator[ast.Module]:
    """Read our own source, but for what is there for tests."""
    for path in SOURCE.rglob("*.py"):
        if "testing" not in path.parts:
            yield ast.parse(path.read_text(encoding="utf-8"))


def codes_written() -> set[str]:
    """Return the codes that are given as text, or by the name of one: as `code=`, or in the place of the code."""
    found: set[str] = set()
    named = {
        node.target.id: node.value.value
        for node in (node for tree in trees() for node in ast.walk(tree))
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for node in (node for tree in trees() for node in ast.walk(tree)):
        if not isinstance(node, ast.Call):
            continue
        given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        place = BY_ORDER.get(getattr(node.func, "id", ""))
        if place is not None and len(node.args) > place:
            given.append(node.args[place])
        found |= {each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)}
        names = [named.get(each.id) for each in given if isinstance(each, ast.Name) and each.id.isupper()]
        found |= {each for each in names if isinstance(each, str)}
    return found - {""}


def test_every_code_that_is_written_somewhere_is_explained():
    written = codes_written()

    assert {"config.unused", "internal", "usage"} <= written
    assert written <= CODES | OTHERS.keys()


def test_what_is_explained_beside_the_errors_is_written_somewhere_and_stands_in_the_reference():
    page = ERRORS.read_text(encoding="utf-8")

    assert OTHERS.keys() <= codes_written()
    assert not OTHERS.keys() & CODES
    for code, (meaning, hint) in OTHERS.items():
        assert f"| `{code}` | {meaning} *{hint}* |" in page


def test_every_error_is_used_but_those_of_which_the_reference_says_that_they_are_not():
    names = {getattr(node, "id", getattr(node, "attr", "")) for tree in trees() for node in ast.walk(tree)}
    [sentence] = re.findall(r"Not raised in this version[^.]*(?:`[^`]+`[^`.]*)+\.", ERRORS.read_text(encoding="utf-8"))

    unused = {
        kind.code
        for kind in every_error()
        if kind.__name__ not in names and kind is not PosthouseError and not kind.__subclasses__()
    }

    assert unused == set(re.findall(r"`([^`]+)`", sentence))
