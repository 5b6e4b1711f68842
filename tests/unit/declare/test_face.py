"""What `import posthouse` shows, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import posthouse
from posthouse.declare import options, shapes


def test_the_options_that_are_checked_are_those_that_a_checker_is_told_of():
    assert set(options.RUN) == set(shapes.Run.__annotations__)
    assert set(options.OPERATION) == set(shapes.OfOperation.__annotations__)
    assert {*options.OPERATION, *options.CONTRACT} == set(shapes.OfContract.__annotations__)
    assert set(options.SUBSCRIPTION) == set(shapes.OfSubscription.__annotations__)


@pytest.mark.parametrize("name", posthouse.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(posthouse, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Kontext"):
        _ = posthouse.Kontext  # pyright: ignore


def test_importing_declarations_starts_nothing_and_loads_no_loop_and_no_engine():
    program = (
        "import sys, posthouse; posthouse.Context;"
        "heavy = {'asyncio', 'apsw', 'starlette', 'uvicorn', 'rich', 'click', 'hashlib', 'ssl', 'typing_inspection'};"
        "print(sorted(heavy & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert found.stdout == "[]\n"
