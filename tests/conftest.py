"""What holds for every test: the loop is asyncio's, nothing blocks it, and no clock fails a property.

Fixtures of one folder of tests belong into that folder's own conftest.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Hypothesis has chosen by now: on CI the same examples each time, on a desk new ones.
settings.register_profile("house", parent=settings(), deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the loop that async tests run on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail an async test in which our code makes a blocking call on the loop; the tests' own code may.

    SQLite is not seen: a commit on the loop is a choice that the backend makes from what a flush was measured to take.
    """
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    with blockbuster_ctx("posthouse", excluded_modules=["posthouse.testing"]):
        yield
