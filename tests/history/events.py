"""What was seen: one record for each thing that a process saw, and the files that they are kept in.

Several processes write: callers, handlers, whoever reads the stores at the end, whoever injects faults. Each
writes a file of its own, one JSON object a line, one `write` a record, so that a SIGKILL leaves all that was
noted, but perhaps for a torn last line. What was seen is not judged here.

Names: an *operation* is one request with all that becomes of it; its id (`op`) is the test's own, travels in
the data, and is new for each request. A *store* goes by the name of its service.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

import msgspec

from posthouse.clock import Instant
from posthouse.errors import NotDoneError, NotStoredError, OutcomeUnknownError, PendingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Outcome: TypeAlias = Literal[
    "done",  # with a value
    "not done",  # rejected, failed, expired, canceled: its code says which
    "unknown",
    "conflict",  # done, then lost by a restore of the replier, then refused
    "stored",  # a send that was confirmed; no outcome yet
    "pending",  # the time-out of a call that is stored; no outcome yet
    "not stored",
]


class _Seen(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True, forbid_unknown_fields=True, tag=True):
    """What all records have.

    Attributes:
        at: when it was noted; one clock for all writers.
        by: who noted it.
    """

    at: Instant = 0.0
    by: str = ""


class Invoked(_Seen):
    """A request is about to be made. Noted before it, and again for each try under the same id.

    Attributes:
        op: which operation.
        caller: the service whose store keeps the request; "" for a caller without a store.
        service: the service that is asked.
        key: the ordering key, if any.
        applies: the caller writes the reply into its own database when it is applied: an Applied will be read there.
    """

    op: str
    caller: str
    service: str
    key: str = ""
    applies: bool = False


class _Telling(_Seen):
    """What became of an operation, as its caller has it.

    Attributes:
        op: which operation.
        outcome: what was told.
        value: what a done operation gave: the same as its Effect has.
        code: why an operation is not done.
        echo: the operation that the reply itself names; "" if it names none.
    """

    op: str
    outcome: Outcome
    value: str = ""
    code: str = ""
    echo: str = ""


class Told(_Telling):
    """A caller was told, the first time or asked again. Noted after it.

    Attributes:
        provisional: a run of a handler was told, and has not committed: a restored replier may say otherwise.
    """

    provisional: bool = False


class Applied(_Telling):
    """A reply in the caller's database. Read at the end."""


class Began(_Seen):
    """A handler began. Noted before anything that it does; `run` is new for each run."""

    op: str
    service: str
    run: str
    attempt: int = 1


class Ended(_Seen):
    """A handler ended, in its last line; a run that was killed has none. `raised` rolls back."""

    op: str
    run: str
    how: Literal["returned", "raised"]


class Effect(_Seen):
    """An effect in the replier's database: a row that says that the operation was done. Read once, at the end.

    Attributes:
        op: which operation.
        service: in whose store.
        sequence: its place among all effects there, as they were committed.
        value: what it gave.
        run: the run that wrote it; "" if the row does not say.
    """

    op: str
    service: str
    sequence: int
    value: str = ""
    run: str = ""


class Acked(_Seen):
    """The replier saw the ack of an operation, as its database says. Read at the end."""

    op: str


class Fault(_Seen):
    """A fault is about to be injected. Noted before it.

    Attributes:
        kind: a power cut that costs a store what it had committed is a restore.
        what: the store that is restored, the process that is killed, the engine that is wiped.
        backup_at: for a restore, when its backup was begun; without it the backup may hold anything or nothing.
    """

    kind: Literal["kill", "power cut", "cut", "wipe", "restore"]
    what: str
    backup_at: Instant | None = None


class Left(_Seen):
    """What a store holds at the end. The last one of each store counts.

    Attributes:
        store: which.
        open: rows of requests that it made and that are not final.
        held: rows of requests that it received and still has.
        parked: the operations among these that wait for an operator.
    """

    store: str
    open: int = 0
    held: int = 0
    parked: tuple[str, ...] = ()


Record: TypeAlias = Invoked | Told | Applied | Began | Ended | Effect | Acked | Fault | Left


class Recorder:
    """Notes what one process sees, with the time and its own name.

    Times of one recorder differ, and follow the order in which it was told. In a simulation, whose clock stands
    still between two steps, all share one recorder.

    Args:
        by: who notes; a record that names somebody itself keeps that name.
        keep: takes each record; for a list, its `append`.
        now: the clock. All processes of a machine share the monotonic one.
    """

    def __init__(
        self, by: str, keep: Callable[[Record], object], *, now: Callable[[], Instant] = time.monotonic
    ) -> None:
        self.by = by
        self._keep = keep
        self._now = now
        self._last = -math.inf

    @classmethod
    def to_file(cls, folder: Path, role: str) -> Self:
        """Return a recorder with a new file of its own; the file is closed when the process ends."""
        by = f"{role}-{os.getpid()}-{os.urandom(4).hex()}"
        file = os.open(folder / f"{by}{SUFFIX}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        encode = msgspec.json.Encoder().encode

        def keep(record: Record) -> None:
            line = encode(record) + b"\n"
            while line:  # a disk that is nearly full takes a part, and then says so
                line = line[os.write(file, line) :]

        return cls(by, keep)

    def note(self, record: Record) -> None:
        """Keep a record; when this returns, a SIGKILL does not lose it."""
        self._last = record.at = max(self._now(), math.nextafter(self._last, math.inf))
        record.by = record.by or self.by
        self._keep(record)


SUFFIX: Final = ".history.jsonl"


class TornHistoryError(Exception):
    """A file holds a line that is no record, and it is not the last one."""


def read(folder: Path) -> Iterator[Record]:
    """Yield all records of a folder's files: those of one writer in their order, the writers one after another.

    Raises:
        TornHistoryError: a whole line is no record. A torn last line is left out: its writer died before it went on.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with path.open("rb") as lines:
            yield from _records(lines, path)


def _records(lines: Iterable[bytes], path: Path) -> Iterator[Record]:
    decode = msgspec.json.Decoder[Record](Record).decode
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            yield decode(line)
        except msgspec.DecodeError as error:
            raise TornHistoryError(f"{path}, line {number}: {error}") from error


def refused(op: str, error: Exception) -> Told:
    """Return what an error told the caller.

    Raises:
        Exception: the error itself, if it tells nothing of the outcome; then nothing is noted.
    """
    code: str = getattr(error, "code", "")
    match error:
        case NotDoneError():
            return Told(op, "not done", code=code)
        case PendingError():
            return Told(op, "pending", code=code)
        case OutcomeUnknownError():
            return Told(op, "unknown", code=code)
        case NotStoredError():
            return Told(op, "not stored", code=code)
        case _:
            raise error
