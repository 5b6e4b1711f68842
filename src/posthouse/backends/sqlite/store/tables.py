"""What the file of a store holds: its tables, its version, and the steps from an older version.

All tables of ours begin with posthouse_; what else is there is the user's, and none of our business.
Calls and requests lie by place (lane and number), so the rows of a lane lie side by side, in order, and
nearly every statement walks a range of them. A call that has no number yet lies below all lanes.

To change a format: raise VERSION, add the step from the version before to STEPS, keep the old steps,
and add a file of the old version to the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.backends.sqlite.store.seals import seal_all
from posthouse.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from posthouse.backends.sqlite.sql import Sql

VERSION: Final = 3

APPLICATION: Final = 0x506F5374
"""SQLite's application_id: "PoSt". It tells the file of a store from any other database."""

_TABLES: Final = """
-- Which store it is, in which life, and where its file lay: in another place it is a copy.
CREATE TABLE posthouse_store (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  id TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  machine TEXT NOT NULL,
  device INTEGER NOT NULL,
  inode INTEGER NOT NULL,
  letters INTEGER NOT NULL,             -- dead letters, ever: the number of the newest
  probe INTEGER NOT NULL                -- is written to measure how long a flush takes
) STRICT;

-- Each life, why it began, and how far the requests of each lane were known to be over at that moment.
CREATE TABLE posthouse_epochs (epoch INTEGER PRIMARY KEY, reason TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE posthouse_epoch_floors (
  epoch INTEGER NOT NULL,
  lane INTEGER NOT NULL,
  floor INTEGER NOT NULL,
  ranges BLOB NOT NULL,
  PRIMARY KEY (epoch, lane)
) STRICT, WITHOUT ROWID;

-- The user's scripts that were run.
CREATE TABLE posthouse_scripts (number INTEGER PRIMARY KEY, digest BLOB NOT NULL, at REAL NOT NULL) STRICT;

-- The instances that have the store open, each with what tells whether its process is still there.
CREATE TABLE posthouse_members (
  instance TEXT PRIMARY KEY,
  until REAL NOT NULL,
  pid INTEGER NOT NULL,
  started INTEGER NOT NULL,
  namespace INTEGER NOT NULL,
  boot TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE posthouse_lanes_out (
  lane INTEGER PRIMARY KEY,
  service TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  peer_store TEXT NOT NULL,
  peer_epoch INTEGER NOT NULL,
  next INTEGER NOT NULL,
  floor INTEGER NOT NULL,
  ranges BLOB NOT NULL,
  pending INTEGER NOT NULL,
  waiting INTEGER NOT NULL,
  acked INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  UNIQUE (service, epoch)
) STRICT;

CREATE TABLE posthouse_lanes_in (
  lane INTEGER PRIMARY KEY,
  caller_store TEXT NOT NULL,
  caller_epoch INTEGER NOT NULL,
  service TEXT NOT NULL,
  next INTEGER NOT NULL,
  floor INTEGER NOT NULL,
  ranges BLOB NOT NULL,
  closed INTEGER NOT NULL,
  UNIQUE (caller_store, caller_epoch)
) STRICT;
-- The lane of the store to itself; its numbers begin with 1, since a place of 0 stands for none.
INSERT INTO posthouse_lanes_in VALUES (0, '', 0, '', 1, 0, x'90', 0);

-- The newest epoch of each caller's store that was heard of; it outlives its lanes.
CREATE TABLE posthouse_callers (store TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Three checksums a row: of what never changes, of the frame, of the outcome.
CREATE TABLE posthouse_calls (
  place INTEGER PRIMARY KEY,            -- below 0: it waits for a number, the oldest lowest
  id TEXT NOT NULL,
  service TEXT NOT NULL,
  operation TEXT NOT NULL,
  state INTEGER NOT NULL,
  wants INTEGER NOT NULL,
  frame BLOB NOT NULL,
  digest BLOB NOT NULL,
  work INTEGER NOT NULL,
  nth INTEGER NOT NULL,
  key TEXT NOT NULL,
  deadline REAL NOT NULL,
  created REAL NOT NULL,
  owner TEXT NOT NULL,
  parked INTEGER NOT NULL,
  outcome BLOB NOT NULL,
  outcome_epoch INTEGER NOT NULL,
  sum INTEGER NOT NULL,
  frame_sum INTEGER NOT NULL,
  outcome_sum INTEGER NOT NULL
) STRICT;
CREATE INDEX posthouse_calls_by_id ON posthouse_calls (id);
CREATE INDEX posthouse_calls_by_work ON posthouse_calls (work) WHERE work <> 0;
CREATE INDEX posthouse_calls_waiting ON posthouse_calls (service, place) WHERE place < 0;
CREATE INDEX posthouse_calls_keyed ON posthouse_calls (service, key, place) WHERE key <> '' AND state < 5;

-- How many bytes the final calls of a lane take, some hundred of them a row: what is kept is limited in bytes.
CREATE TABLE posthouse_kept (
  first INTEGER PRIMARY KEY,            -- the places first..last
  last INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE posthouse_requests (
  place INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  operation TEXT NOT NULL,
  state INTEGER NOT NULL,
  digest BLOB NOT NULL,
  frame BLOB NOT NULL,
  instance TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  deaths INTEGER NOT NULL,
  due REAL NOT NULL,
  deadline REAL NOT NULL,
  asked INTEGER NOT NULL,
  asker INTEGER NOT NULL,
  reply_to TEXT NOT NULL,
  outcome BLOB NOT NULL,
  sum INTEGER NOT NULL,
  frame_sum INTEGER NOT NULL,
  outcome_sum INTEGER NOT NULL
) STRICT;
CREATE INDEX posthouse_requests_due ON posthouse_requests (operation, due, place) WHERE state IN (1, 3);
-- Who runs something is asked every other second: without an index that took 30 ms with 50,000 that wait; it
-- costs 0.4 us a request (both measured).
CREATE INDEX posthouse_requests_run ON posthouse_requests (instance) WHERE state = 2;

CREATE TABLE posthouse_dead (
  number INTEGER PRIMARY KEY,
  place INTEGER NOT NULL,
  id TEXT NOT NULL,
  operation TEXT NOT NULL,
  frame BLOB NOT NULL,
  state TEXT NOT NULL,
  code TEXT NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  cause TEXT NOT NULL,
  at REAL NOT NULL,
  sum INTEGER NOT NULL
) STRICT;
CREATE INDEX posthouse_dead_by_operation ON posthouse_dead (operation, number);
CREATE INDEX posthouse_dead_by_cause ON posthouse_dead (cause, number);
CREATE INDEX posthouse_dead_by_place ON posthouse_dead (place, number);

CREATE TABLE posthouse_keys (
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  digest BLOB NOT NULL,
  reference TEXT NOT NULL,
  until REAL NOT NULL,
  PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX posthouse_keys_by_until ON posthouse_keys (until);
"""

_EVENTS: Final = """
-- How many feeds were ever opened: the number of one that is gone is not given again.
ALTER TABLE posthouse_store ADD COLUMN feeds INTEGER NOT NULL DEFAULT 0;

CREATE TABLE posthouse_streams (
  stream INTEGER PRIMARY KEY,
  topic TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  next INTEGER NOT NULL,
  first INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  retain REAL NOT NULL,
  UNIQUE (topic, epoch)
) STRICT;

-- What was told, by stream and number; the frame stands last, since some look only at what stands before it.
CREATE TABLE posthouse_events (
  place INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  id TEXT NOT NULL,
  sum INTEGER NOT NULL,
  frame BLOB NOT NULL
) STRICT;
CREATE INDEX posthouse_events_by_id ON posthouse_events (id);

-- What was had of the streams of others; the events that are to be run stand among the requests.
CREATE TABLE posthouse_feeds (
  lane INTEGER PRIMARY KEY,             -- above all lanes of requests
  publisher_store TEXT NOT NULL,
  publisher_epoch INTEGER NOT NULL,
  subscription TEXT NOT NULL,
  topic TEXT NOT NULL,
  floor INTEGER NOT NULL,
  ranges BLOB NOT NULL,
  next INTEGER NOT NULL,
  head INTEGER NOT NULL,
  UNIQUE (subscription, topic, publisher_store, publisher_epoch)
) STRICT;
CREATE INDEX posthouse_feeds_by_topic ON posthouse_feeds (topic);

CREATE TABLE posthouse_subscriptions (name TEXT PRIMARY KEY, topic TEXT NOT NULL, created REAL NOT NULL)
  STRICT, WITHOUT ROWID;
"""

_SUMS: Final = """
-- A sum over the whole row (seals.py); in the store's own row over its id and epoch.
ALTER TABLE posthouse_lanes_out ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posthouse_lanes_in ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posthouse_feeds ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posthouse_streams ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posthouse_subscriptions ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posthouse_keys ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posthouse_epoch_floors ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posthouse_store ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
"""
_SUMMED: Final = 3
"""From this version on the rows of lanes, and others like them, have sums."""

STEPS: Final[Mapping[int, str]] = {0: _TABLES, 1: _EVENTS, 2: _SUMS}
"""What takes a file of version n to version n + 1."""


def bring_up_to_date(sql: Sql, path: Path) -> None:
    """Make the tables, or take them step by step to this version; inside a transaction of the caller.

    Raises:
        StorageError: it is not the file of a store, or of a later version than this one.
    """
    [[version]] = sql.execute("PRAGMA user_version")
    [[application]] = sql.execute("PRAGMA application_id")
    [[tables]] = sql.execute("SELECT count(*) FROM sqlite_schema")
    if application != APPLICATION and (application or version or tables):
        raise StorageError(
            f"{path} is a database of another program, or no store",
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
    if version < _SUMMED:
        seal_all(sql)
    # A pragma takes no bound value; both are numbers of ours.
    sql.execute(f"PRAGMA application_id = {APPLICATION}")
    sql.execute(f"PRAGMA user_version = {VERSION}")
