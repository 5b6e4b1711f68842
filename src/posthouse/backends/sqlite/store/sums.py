"""Rows of the store, and the checksums that tell a damaged one.

SQLite notices a page that cannot be read, but not one bit of a value that has turned. So a row has three
sums: of what never changes, of the frame (which may be encoded anew or dropped), and of the outcome
(which comes later). They are looked at whenever a row is read whole: a damaged one is an error that names
the row, never a wrong result. States, attempts and times change often and have no sum.

Source for CRC-32 against bit rot: J. Stone, C. Partridge, "When the CRC and TCP checksum disagree", 2000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar
from zlib import crc32

import msgspec

from posthouse.contracts.store import Deceased
from posthouse.contracts.streams import Told
from posthouse.errors import StoreDamagedError
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.outbox import Call, CallState, Wants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

_pack: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder().encode
_values: Final[Callable[[Any], tuple[Any, ...]]] = msgspec.structs.astuple

CALL: Final = ", ".join(Call.__struct_fields__)
REQUEST: Final = ", ".join(Request.__struct_fields__)
LETTER: Final = ", ".join(("number", *(name for name in Deceased.__struct_fields__ if name != "number")))
"""The columns of a row, in the order of the struct's fields; behind them stand the sums."""


class _ByNumber(dict[int, T]):
    """Values by number; a number of a row that stands for nothing is damage."""

    def __missing__(self, number: object) -> T:
        raise StoreDamagedError(f"a row is damaged: its state is {number!r}, and there is no such state")


CALL_STATES: Final[Mapping[int, CallState]] = _ByNumber({int(state): state for state in CallState})
WANTS: Final[Mapping[int, Wants]] = _ByNumber({int(wants): wants for wants in Wants})
REQUEST_STATES: Final[Mapping[int, RequestState]] = _ByNumber({int(state): state for state in RequestState})
"""By number: to look one up here takes a tenth of what its class takes."""


def select(columns: str, rest: str) -> str:
    """Return a SELECT of these columns."""
    return f"SELECT {columns} {rest}"


def sum_of(data: bytes) -> int:
    """Return the sum of a frame or an outcome; that of nothing is 0."""
    return crc32(data)


def call_row(call: Call, place: int) -> tuple[Any, ...]:
    """Return the row of a call, with its sums."""
    values = _values(call)
    _, id, service, operation, _, wants, frame, digest, work, nth, key, _, created, _, _, outcome, _ = values
    return (
        place,
        *values[1:],
        crc32(_pack((place, id, service, operation, int(wants), digest, work, nth, key, float(created)))),
        crc32(frame),
        crc32(outcome),
    )


def call_of(row: Sequence[Any]) -> Call:
    """Return the call of a row.

    Raises:
        StoreDamagedError: the row is damaged.
    """
    (place, id, service, operation, state, wants, frame, digest, work, nth, key, deadline, created, owner) = row[:14]
    parked, outcome, epoch, sum, frame_sum, outcome_sum = row[14:]
    try:
        is_sound = (
            crc32(_pack((place, id, service, operation, wants, digest, work, nth, key, created))) == sum
            and crc32(frame) == frame_sum
            and crc32(outcome) == outcome_sum
            and state in CALL_STATES
        )
    except TypeError:  # a value of another type than was written
        is_sound = False
    if not is_sound:
        raise damaged("call", place, id)
    return Call(
        max(place, 0),
        id,
        service,
        operation,
        CALL_STATES[state],
        WANTS[wants],
        frame,
        digest,
        work,
        nth,
        key,
        deadline,
        created,
        owner,
        parked == 1,
        outcome,
        epoch,
    )


def request_row(request: Request) -> tuple[Any, ...]:
    """Return the row of a request, with its sums."""
    values = _values(request)
    return (
        *values,
        crc32(_pack((values[0], values[1], values[2], values[4]))),
        crc32(values[5]),
        crc32(values[15]),
    )


def request_of(row: Sequence[Any]) -> Request:
    """Return the request of a row.

    Raises:
        StoreDamagedError: the row is damaged.
    """
    place, id, operation, state, digest, frame = row[:6]
    outcome, sum, frame_sum, outcome_sum = row[15:]
    try:
        is_sound = (
            crc32(_pack((place, id, operation, digest))) == sum
            and crc32(frame) == frame_sum
            and crc32(outcome) == outcome_sum
            and state in REQUEST_STATES
        )
    except TypeError:  # a value of another type than was written
        is_sound = False
    if not is_sound:
        raise damaged("request", place, id)
    return remains_of(row)


def remains_of(row: Sequence[Any]) -> Request:
    """Return the request of a row, whether it is damaged or not."""
    place, id, operation, state, digest, frame = row[:6]
    known = REQUEST_STATES.get(state, RequestState.PARKED)  # what is in no state there is, nobody may run
    return Request(place, id, operation, known, digest, frame, *row[6:16])


def letter_row(letter: Deceased, number: int) -> tuple[Any, ...]:
    """Return the row of a dead letter, with its sum."""
    values = (
        number,
        letter.place,
        letter.id,
        letter.operation,
        letter.frame,
        letter.state,
        letter.code,
        letter.reason,
        letter.detail,
        letter.attempts,
        letter.cause,
        float(letter.at),
    )
    return (*values, crc32(_pack(values)))


def letter_of(row: Sequence[Any]) -> Deceased:
    """Return the dead letter of a row.

    Raises:
        StoreDamagedError: the row is damaged.
    """
    number, place, id, operation, frame, state, code, reason, detail, attempts, cause, at, sum = row
    if crc32(_pack(tuple(row[:-1]))) != sum:
        raise damaged("dead letter", number, id)
    return Deceased(
        number=number,
        place=place,
        id=id,
        operation=operation,
        frame=frame,
        state=state,
        code=code,
        reason=reason,
        detail=detail,
        attempts=attempts,
        cause=cause,
        at=at,
    )


def event_row(event: Told) -> tuple[Any, ...]:
    """Return the row of an event, with its sum."""
    at = float(event.at)
    return event.place, at, event.id, crc32(event.frame, crc32(_pack((event.place, at, event.id)))), event.frame


def event_of(row: Sequence[Any]) -> Told:
    """Return the event of a row.

    Raises:
        StoreDamagedError: the row is damaged.
    """
    place, at, id, sum, frame = row
    try:
        is_sound = crc32(frame, crc32(_pack((place, at, id)))) == sum
    except TypeError:  # a value of another type than was written
        is_sound = False
    if not is_sound:
        raise damaged("event", place, id)
    return Told(place, id, frame, at)


def damaged(what: str, place: int, id: str) -> StoreDamagedError:
    """Return the error that says that a row is not as it was written."""
    text = f"the {what} {id} (row {place}) is damaged: its checksum does not fit what is stored"
    return StoreDamagedError(text, place)
