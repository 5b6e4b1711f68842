"""Storing messages: all sends of one turn in one operation, and what happens at a queue that is full.

A send is all or none, whatever queues its messages go to. Rows are inserted many at a time, with ids
counted up from the queue's row; a topic becomes a row in each bound queue. Who waits for these queues
is taken out of the waiting in the same transaction, and rung after it.

A send that is held back (overflow = wait) is put aside, and its process is entered as waiting for room;
who parks it and for how long, the transport knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from posthouse.backends.sqlite.commits import Operation
from posthouse.backends.sqlite.waiting import RECEIVER, SENDER, Ring, enter, wake
from posthouse.errors import PosthouseError, QueueFullError, QueueUnknownError, UnavailableError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from posthouse.backends.sqlite.sql import Sql
    from posthouse.clock import Clock
    from posthouse.contracts.transport import Outgoing

ROW: Final = """
SELECT number, next, cursor, messages, bytes, capacity, capacity_bytes, overflow FROM queues WHERE name = ?"""
ROW_AGAIN: Final = """
SELECT number, next, cursor, messages, bytes, capacity, capacity_bytes, overflow FROM queues
WHERE number = ? AND name = ?"""
BOUND: Final = "SELECT name FROM bindings JOIN queues ON number = queue WHERE topic = ?"
COUNT: Final = "UPDATE queues SET next = ?, cursor = ?, messages = ?, bytes = ?, dropped = dropped + ? WHERE number = ?"
RESTING: Final = """
SELECT message, length(frame) FROM returned CROSS JOIN messages ON id = message
WHERE queue = ? AND holder = '' ORDER BY due, message"""
FRESH: Final = "SELECT id, length(frame) FROM messages WHERE id > ? AND id < ? ORDER BY id"

_DELETED: Final = "the database was deleted a moment ago; send it once more"

_CHUNKS: Final = (128, 64, 32, 16, 8, 4, 2, 1)


def _insert(rows: int) -> str:
    # Bound are the first id, the time, and the frames; SQLite counts the ids up. No value is in the text.
    values = ",".join(f"(?1+{row},?{row + 3},?2)" for row in range(rows))
    return f"INSERT INTO messages (id, frame, stored) VALUES {values}"  # noqa: S608


INSERTS: Final = tuple((rows, _insert(rows)) for rows in _CHUNKS)


class Lack(NamedTuple):
    """Why a send does not fit: the queue, its capacity, and of what."""

    queue: str
    capacity: int
    unit: str


@final
class _Queue:
    """A queue's row as this transaction changes it."""

    __slots__ = (
        "bytes", "capacity", "capacity_bytes", "cursor", "dropped", "frames", "holding", "messages",
        "name", "next", "number", "overflow",
    )  # fmt: skip

    def __init__(self, name: str, row: tuple[Any, ...]) -> None:
        self.name = name
        self.number: int
        self.next: int
        self.cursor: int
        self.messages: int
        self.bytes: int
        self.capacity: int
        self.capacity_bytes: int
        self.overflow: str
        (
            self.number, self.next, self.cursor, self.messages, self.bytes,
            self.capacity, self.capacity_bytes, self.overflow,
        ) = row  # fmt: skip
        self.frames: list[bytes] = []
        self.holding = False  # a send before waits for room here: those behind it wait too
        self.dropped = 0

    def refuse(self, count: int, size: int) -> Lack | None:
        """Return what of this queue is too small for so many messages more, or None."""
        if self.messages + count > self.capacity or self.holding:
            return Lack(self.name, self.capacity, "messages")
        if self.bytes + size > self.capacity_bytes:
            return Lack(self.name, self.capacity_bytes, "bytes")
        return None


@final
class SendBatch(Operation):
    """All sends of one turn of the loop.

    Args:
        peer: this process, which waits when a send is held back.
        clock: tells when a message is stored.
        numbers: the numbers of queues, as far as this process has seen them; may be out of date.
        returning: says whether what is not there may yet come back, since the file was deleted a moment ago.
        started: called when nothing more may join.
        ended: is given the batch when it is done, and the error if none of it was.

    Attributes:
        sends: the messages of each call, in their order.
        futures: what each call waits for.
        refused: what became of the calls that were not stored, by their place: an error, or what holds it back.
        rings: whom to ring after the commit.
    """

    __slots__ = (
        "_clock", "_ended", "_numbers", "_peer", "_returning", "_started", "futures", "refused", "rings", "sends",
        "weight",
    )  # fmt: skip

    flush = True

    def __init__(
        self,
        peer: str,
        clock: Clock,
        numbers: dict[str, int],
        *,
        returning: Callable[[], bool],
        started: Callable[[], None],
        ended: Callable[[SendBatch, Exception | None], None],
    ) -> None:
        self._peer = peer
        self._clock = clock
        self._numbers = numbers
        self._returning = returning
        self._started = started
        self._ended = ended
        self.sends: list[Sequence[Outgoing]] = []
        self.futures: list[asyncio.Future[None]] = []
        self.refused: dict[int, PosthouseError | Lack] = {}
        self.rings: list[Ring] = []
        self.weight = 0

    def start(self) -> None:
        """Let nothing more join."""
        self._started()

    def done(self, error: Exception | None) -> None:
        """Tell the transport."""
        self._ended(self, error)

    def run(self, sql: Sql) -> None:
        """Store what there is room for."""
        self.rings = []
        self.refused = {}
        queues: dict[str, _Queue | None] = {}
        topics: dict[str, list[_Queue]] = {}
        for place, messages in enumerate(self.sends):
            if len(messages) == 1 and not messages[0].topic:  # by far the most common; this loop is hot
                address = messages[0].address
                queue = queues[address] if address in queues else _find(sql, self._numbers, queues, address)
                frame = messages[0].frame
                if queue is not None and not queue.holding:
                    count = queue.messages + 1
                    size = queue.bytes + len(frame)
                    if count <= queue.capacity and size <= queue.capacity_bytes:
                        queue.messages = count
                        queue.bytes = size
                        queue.frames.append(frame)
                        continue
            refusal = self._admit(sql, messages, queues, topics)
            if refusal is not None:
                self.refused[place] = refusal
        now = self._clock.now()
        for queue in queues.values():
            if queue is not None and queue.frames:
                self._store(sql, queue, now)

    def _admit(
        self,
        sql: Sql,
        messages: Sequence[Outgoing],
        queues: dict[str, _Queue | None],
        topics: dict[str, list[_Queue]],
    ) -> PosthouseError | Lack | None:
        """Take all messages of a send into their queues, or none; return why none."""
        wanted: dict[_Queue, list[bytes]] = {}
        for message in messages:
            address = message.address
            if message.topic:
                bound = (
                    topics[address] if address in topics else _find_bound(sql, self._numbers, queues, topics, address)
                )
                if not bound and self._returning():
                    return UnavailableError(f"no queue hears {address!r} again yet, since {_DELETED}")
                for queue in bound:
                    wanted.setdefault(queue, []).append(message.frame)
                continue
            queue = queues[address] if address in queues else _find(sql, self._numbers, queues, address)
            if queue is None and self._returning():
                return UnavailableError(f"there is no queue {address!r} again yet, since {_DELETED}")
            if queue is None:
                return QueueUnknownError(f"there is no queue {address!r}")
            wanted.setdefault(queue, []).append(message.frame)
        sizes = {queue: sum(map(len, frames)) for queue, frames in wanted.items()}
        held: tuple[_Queue, Lack] | None = None
        for queue, frames in wanted.items():
            lack = queue.refuse(len(frames), sizes[queue])
            if lack is None:
                continue
            never = sizes[queue] > queue.capacity_bytes or len(frames) > queue.capacity
            if queue.overflow == "reject" or (never and queue.overflow == "wait"):
                return QueueFullError(*lack)
            if any(len(frame) > queue.capacity_bytes for frame in frames):
                return QueueFullError(*lack)  # to drop all others would not make room for it
            if queue.overflow == "wait":
                held = held or (queue, lack)
        if held is not None:
            held[0].holding = True
            enter(sql, held[0].number, SENDER, self._peer)
            return held[1]
        for queue, frames in wanted.items():
            queue.messages += len(frames)
            queue.bytes += sizes[queue]
            queue.frames += frames
        return None

    def _store(self, sql: Sql, queue: _Queue, now: float) -> None:
        if queue.messages > queue.capacity or queue.bytes > queue.capacity_bytes:
            _drop_oldest(sql, queue)
        frames = queue.frames
        following = queue.next
        position = 0
        left = len(frames)
        for rows, insert in INSERTS:
            while left >= rows:
                sql.execute(insert, (following, now, *frames[position : position + rows]))
                following += rows
                position += rows
                left -= rows
        sql.execute(COUNT, (following, queue.cursor, queue.messages, queue.bytes, queue.dropped, queue.number))
        self.rings += wake(sql, queue.number, RECEIVER, len(frames))


def _find(sql: Sql, numbers: dict[str, int], queues: dict[str, _Queue | None], name: str) -> _Queue | None:
    """Look a queue up once in a transaction: by its number if that still is its own, which spares an index."""
    number = numbers.get(name)
    found = sql.execute(ROW_AGAIN, (number, name)).fetchall() if number else []
    found = found or sql.execute(ROW, (name,)).fetchall()
    queues[name] = queue = _Queue(name, found[0]) if found else None
    if queue is not None:
        numbers[name] = queue.number
    else:
        numbers.pop(name, None)
    return queue


def _find_bound(
    sql: Sql, numbers: dict[str, int], queues: dict[str, _Queue | None], topics: dict[str, list[_Queue]], topic: str
) -> list[_Queue]:
    names = [name for (name,) in sql.execute(BOUND, (topic,)).fetchall()]
    found = [queues[name] if name in queues else _find(sql, numbers, queues, name) for name in names]
    topics[topic] = bound = [queue for queue in found if queue is not None]
    return bound


def _drop_oldest(sql: Sql, queue: _Queue) -> None:
    """Make room: what came back first, then what waits longest, then the oldest of the new ones.

    What is delivered cannot be taken back. When that alone fills the queue, the new ones go.
    """
    resting = sql.execute(RESTING, (queue.number,)) if _over(queue) else ()
    gone: list[tuple[int]] = []
    for message, size in resting:
        gone.append((message,))
        _drop(queue, size)
        if not _over(queue):
            break
    sql.executemany("DELETE FROM returned WHERE message = ?", gone)
    sql.executemany("DELETE FROM messages WHERE id = ?", gone)
    if _over(queue):
        last = queue.cursor
        for message, size in sql.execute(FRESH, (queue.cursor, queue.next)):
            last = message
            _drop(queue, size)
            if not _over(queue):
                break
        sql.execute("DELETE FROM messages WHERE id > ? AND id <= ?", (queue.cursor, last))
        queue.cursor = last
    new = 0
    while new < len(queue.frames) and _over(queue):
        _drop(queue, len(queue.frames[new]))
        new += 1
    del queue.frames[:new]


def _over(queue: _Queue) -> bool:
    return queue.messages > queue.capacity or queue.bytes > queue.capacity_bytes


def _drop(queue: _Queue, size: int) -> None:
    queue.messages -= 1
    queue.bytes -= size
    queue.dropped += 1
