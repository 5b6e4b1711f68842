"""The suites against backends with a seeded fault: each is run until a test has caught it.

The test that is there to catch the fault is run first, so that it is the one which catches it. The
modules here are not collected with the other tests; test_seeded_faults.py runs them in a process of
their own, where failing is what they are for.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

_HERE: Final = Path(__file__).parent
_CAUGHT: Final[set[str]] = set()


def _fault_of(item: pytest.Item) -> str:
    return str(item.callspec.params["fault"]) if isinstance(item, pytest.Function) else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each fault's own test before all others."""

    def is_another(item: pytest.Item) -> bool:
        if not isinstance(item, pytest.Function) or not item.path.is_relative_to(_HERE):
            return False  # this hook is given the items of all folders
        catchers: dict[str, str] = vars(item.module)["CATCHERS"]
        return catchers.get(_fault_of(item)) != item.originalname

    items.sort(key=is_another)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is left of a suite once it has caught the fault."""
    if _fault_of(item) in _CAUGHT:
        pytest.skip("caught")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a fault was caught: a test failed, and not only its fixtures."""
    report = yield
    if report.when == "call" and report.failed:
        _CAUGHT.add(_fault_of(item))
    return report
