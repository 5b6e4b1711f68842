"""The hot statements walk an index: their cost does not grow with the backlog."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from posthouse.backends.sqlite import Database, claiming, inbound, leasing, letters, sending, settling, waiting
from posthouse.testing import ManualClock

pytestmark = pytest.mark.anyio

HOT = {
    f"{module.__name__.rpartition('.')[2]}.{name}": statement
    for module in (sending, claiming, settling, leasing, waiting, letters, inbound)
    for name, statement in vars(module).items()
    if not name.startswith("_")  # those are for what is rare
    and isinstance(statement, str)
    and statement.split()[:1]
    and statement.split()[0] in {"SELECT", "UPDATE", "DELETE"}
}


def bound(statement: str) -> tuple[None, ...] | dict[str, None]:
    """Return a value for each that the statement wants; the plan does not depend on them."""
    return (None,) * statement.count("?") or dict.fromkeys(("queue", "start", "end", "now"))


@pytest.fixture
async def database(directory: Path, clock: ManualClock) -> AsyncIterator[Database]:
    """Give an open database."""
    opened = Database(directory, clock=clock)
    await opened.open()
    yield opened
    await opened.close()


def test_the_hot_statements_were_found():
    assert {"sending.ROW", "claiming.NEW", "claiming.DUE", "settling.FORGET_RUN", "waiting.LONGEST"} <= set(HOT)


@pytest.mark.parametrize("name", HOT)
async def test_no_hot_statement_scans_a_table_or_sorts(name: str, database: Database):
    rows = await database.call(
        lambda sql: sql.execute(f"EXPLAIN QUERY PLAN {HOT[name]}", bound(HOT[name])).fetchall(),
        reads=True,
    )

    steps = [step for *_, step in rows]
    assert not [step for step in steps if "SCAN" in step and "CONSTANT ROW" not in step], steps
    assert not [step for step in steps if "TEMP B-TREE" in step], steps
