"""The hot statements walk an index or a range: their cost does not grow with what is stored."""

from __future__ import annotations

import re
from typing import Any

import pytest

from posthouse.backends.sqlite.store import (
    SqliteStore,
    calls,
    feeds,
    forgetting,
    lanes,
    letters,
    people,
    requests,
    streams,
    waiting,
)
from tests.unit.backends.sqlite.store.conftest import OpenStore

pytestmark = pytest.mark.anyio

HOT = {
    f"{module.__name__.rpartition('.')[2]}.{name}": statement
    for module in (calls, feeds, forgetting, lanes, letters, people, requests, streams, waiting)
    for name, statement in vars(module).items()
    if not name.startswith("_")  # those are for what is rare
    and isinstance(statement, str)
    and statement.split()[:1]
    and statement.split()[0] in {"SELECT", "UPDATE", "DELETE"}
}

SORTED_FEW = {"calls.OWNERS"}
"""They sort what is not final."""

SMALL_INDEX = {"requests.HOLDERS", "requests.WAITING"}
"""They walk through a whole index, which holds only what runs, or what waits; the latter once for a start."""


def bound(statement: str) -> Any:
    """Return a value for each that the statement wants; the plan does not depend on them."""
    named = set(re.findall(r":(\w+)", statement))
    return dict.fromkeys(named) if named else (None,) * statement.count("?")


@pytest.fixture
async def store(open_file: OpenStore) -> SqliteStore:
    """Give an open store."""
    return await open_file()


def test_the_hot_statements_were_found():
    assert {
        "waiting.READY",
        "calls.KEYED",
        "calls.BY_ID",
        "calls.UNSETTLED",
        "forgetting.FORGET",
        "lanes.OUT_TO",
        "letters.LETTERS_BY_CAUSE",
        "requests.CLAIMABLE",
        "requests.DECIDE",
    } <= set(HOT)


@pytest.mark.parametrize("name", HOT)
async def test_no_hot_statement_scans_a_table_or_sorts(name: str, store: SqliteStore):
    sql = store._engine.sql

    steps = [step for *_, step in sql.execute(f"EXPLAIN QUERY PLAN {HOT[name]}", bound(HOT[name])).fetchall()]

    scans = [step for step in steps if "SCAN" in step and "CONSTANT ROW" not in step and name not in SMALL_INDEX]
    sorts = [step for step in steps if "TEMP B-TREE" in step and name not in SORTED_FEW]
    assert steps
    assert (scans, sorts) == ([], []), steps


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("calls.BY_ID", "posthouse_calls_by_id"),
        ("calls.BY_WORK", "posthouse_calls_by_work"),
        ("waiting.READY", "posthouse_calls_waiting"),
        ("waiting.READY", "posthouse_calls_keyed"),
        ("waiting.READY", "posthouse_calls_waiting (service=? AND place>? AND place<?)"),
        ("waiting.NEXT_BEHIND", "posthouse_calls_keyed (service=? AND key=? AND place<?)"),
        ("calls.KEYED", "posthouse_calls_keyed"),
        ("calls.KEY_HOLDER", "posthouse_calls_keyed (service=? AND key=? AND place>?)"),
        ("calls.KEY_HOLDER", "posthouse_calls_keyed (service=? AND key=? AND place>? AND place<?)"),
        ("requests.CLAIMABLE", "posthouse_requests_due (operation=? AND due<?)"),
        ("requests.NEXT_DUE", "posthouse_requests_due"),
        ("requests.HELD", "posthouse_requests_run (instance=?)"),
        ("requests.HOLDERS", "SCAN posthouse_requests USING COVERING INDEX posthouse_requests_run"),
        ("feeds.FEEDS_OF", "sqlite_autoindex_posthouse_feeds_1 (subscription=?)"),
        ("feeds.FEED_OF", "(subscription=? AND topic=? AND publisher_store=? AND publisher_epoch=?)"),
        ("feeds.FEEDS_ON", "posthouse_feeds_by_topic"),
        ("streams.EVENTS", "PRIMARY KEY (rowid>? AND rowid<?)"),
        ("streams.EVENT_NAMED", "posthouse_events_by_id"),
        ("letters.LETTERS_OF", "posthouse_dead_by_operation"),
        ("letters.LETTERS_BY_CAUSE", "posthouse_dead_by_cause"),
        ("letters.LETTER_OF", "posthouse_dead_by_place"),
        ("letters.OVER", "posthouse_keys_by_until"),
    ],
)
async def test_an_index_is_used_for_what_it_is_there_for(name: str, index: str, store: SqliteStore):
    rows = store._engine.sql.execute(f"EXPLAIN QUERY PLAN {HOT[name]}", bound(HOT[name])).fetchall()

    assert any(index in step for *_, step in rows), rows
