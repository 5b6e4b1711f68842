"""What the file holds: its tables, its version, and the steps from an older version.

The file is disposable: wiping it loses queued messages, and nothing that is journaled.

A message's id says where it stands: 17 bits for the number of its queue, 2 for its priority (all are
NORMAL, 1, as yet: HIGH, 0, and LOW, 2, have their ranges free before and behind), 44 for its place in the
queue. So a queue is a range of ids, every hot statement walks a range, and a backlog costs nothing. A
place is given out once: the counter stands in the queue's row, not in what the table happens to
hold (a drained table would give out old ids again, and a late settling would hit a stranger), and a
number that a deleted queue leaves behind is taken over together with its counter.

To change a format: raise VERSION, add the step from the version before to STEPS, keep the old steps,
and add a file of the old version to the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from posthouse.backends.sqlite.sql import Sql

VERSION: Final = 1

APPLICATION: Final = 0x506F7374
"""SQLite's application_id: "Post". It tells our file from any other database."""

PLACE_BITS: Final = 44
PRIORITY_BITS: Final = 2
NORMAL: Final = 1
"""The priority that all messages have; see message.Priority."""


def first_id(number: int) -> int:
    """Return the id of place 0 in queue `number`; the first message has place 1."""
    return (number << PRIORITY_BITS | NORMAL) << PLACE_BITS


def last_id(number: int) -> int:
    """Return the largest id that queue `number` can have."""
    return first_id(number) + (1 << PLACE_BITS) - 1


def queue_number(message: int) -> int:
    """Return the number of the queue that a message is in."""
    return message >> (PLACE_BITS + PRIORITY_BITS)


_TABLES: Final = """
-- One row a queue. Messages with an id up to `cursor` were handed out at least once; the next one gets `next`.
-- A deleted queue leaves its row, without a name, to the next one that is declared.
CREATE TABLE queues (
  number INTEGER PRIMARY KEY,
  name TEXT UNIQUE,
  next INTEGER NOT NULL,
  cursor INTEGER NOT NULL,
  messages INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  capacity INTEGER NOT NULL DEFAULT 0,
  capacity_bytes INTEGER NOT NULL DEFAULT 0,
  overflow TEXT NOT NULL DEFAULT 'reject',
  owner TEXT NOT NULL DEFAULT '',
  ephemeral TEXT NOT NULL DEFAULT '',
  peer TEXT NOT NULL DEFAULT '',        -- the process of an ephemeral queue
  dropped INTEGER NOT NULL DEFAULT 0    -- by overflow = drop-oldest, ever
) STRICT;

CREATE TABLE bindings (topic TEXT NOT NULL, queue INTEGER NOT NULL, PRIMARY KEY (topic, queue)) STRICT, WITHOUT ROWID;
CREATE INDEX bindings_by_queue ON bindings (queue);

CREATE TABLE messages (id INTEGER PRIMARY KEY, frame BLOB NOT NULL, stored REAL NOT NULL) STRICT;

-- Messages handed out for the first time, as a range: what is left of first..last is `holder`'s until `until`.
-- `first` was never first before and never will be again, so it names the lease. There are few at a time, and
-- each is made and ended within one batch: an index would cost more than it finds.
CREATE TABLE leases (
  first INTEGER PRIMARY KEY,
  last INTEGER NOT NULL,
  holder TEXT NOT NULL,
  until REAL NOT NULL
) STRICT;

-- Messages that came back. Without a holder: deliver it when `due`. With one: delivered again, and that
-- lease ends when `due`. `fence` counts the hand-overs, so that an old one cannot settle a new one.
CREATE TABLE returned (
  message INTEGER PRIMARY KEY,
  queue INTEGER NOT NULL,
  due REAL NOT NULL,
  attempt INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  holder TEXT NOT NULL
) STRICT;
CREATE INDEX returned_by_due ON returned (queue, due, message);
CREATE INDEX returned_by_holder ON returned (holder) WHERE holder <> '';

CREATE TABLE dead (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL,
  frame BLOB NOT NULL,
  state TEXT NOT NULL,
  code TEXT NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  at REAL NOT NULL
) STRICT;
CREATE INDEX dead_by_queue ON dead (queue, id);

-- Which processes wait for a queue: receivers (sender = 0) for a message, senders (1) for room.
-- At most one row a process, queue and role, so few that nothing but their order needs an index.
CREATE TABLE waiting (
  queue INTEGER NOT NULL,
  sender INTEGER NOT NULL,
  place INTEGER NOT NULL,
  peer TEXT NOT NULL,
  PRIMARY KEY (queue, sender, place)
) STRICT, WITHOUT ROWID;

-- The processes that have the file open, each with its bell.
CREATE TABLE peers (peer TEXT PRIMARY KEY, pid INTEGER NOT NULL, since REAL NOT NULL) STRICT, WITHOUT ROWID;

-- The registry.
CREATE TABLE contracts (
  service TEXT PRIMARY KEY,
  body TEXT NOT NULL,
  announced REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE subscriptions (
  name TEXT PRIMARY KEY,
  service TEXT NOT NULL,
  topic TEXT NOT NULL,
  mode INTEGER NOT NULL,
  declared INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE instances (
  id TEXT PRIMARY KEY,
  peer TEXT NOT NULL,
  body TEXT NOT NULL,
  until REAL NOT NULL
) STRICT, WITHOUT ROWID;
-- Counts the changes that are rung; `probe` is written to measure how long a flush takes.
CREATE TABLE changes (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  generation INTEGER NOT NULL,
  probe INTEGER NOT NULL
) STRICT;
INSERT INTO changes VALUES (1, 0, 0);
"""

STEPS: Final[Mapping[int, str]] = {0: _TABLES}
"""What takes a file of version n to version n + 1."""


def bring_up_to_date(sql: Sql, path: Path) -> None:
    """Make the tables, or take them step by step to this version; inside a transaction of the caller.

    Raises:
        StorageError: it is not our file, or of a later version than this one.
    """
    [[version]] = sql.execute("PRAGMA user_version")
    [[application]] = sql.execute("PRAGMA application_id")
    [[tables]] = sql.execute("SELECT count(*) FROM sqlite_schema")
    if application != APPLICATION and (application or version or tables):
        raise StorageError(
            f"{path} is a database of another program",
            hint="Name another data directory, or move the file away; posthouse makes its own.",
        )
    if version > VERSION:
        raise StorageError(
            f"{path} was written by a newer posthouse (format {version}; this one knows {VERSION})",
            hint="Upgrade this posthouse, or name another data directory; nothing in the file was changed.",
        )
    if version == VERSION:
        return
    for step in range(version, VERSION):
        sql.execute(STEPS[step])
    # A pragma takes no bound value; both are numbers of ours.
    sql.execute(f"PRAGMA application_id = {APPLICATION}")
    sql.execute(f"PRAGMA user_version = {VERSION}")
