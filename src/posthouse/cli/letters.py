"""All dead letters of a system in one list: those that the transport keeps, and those that the stores keep.

A letter of the transport has a number; one of a store has that of its service before it: prices:12. What the two
kinds have in common is here; what is printed of them is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.cli.conversation import message_of
from posthouse.cli.data import as_json
from posthouse.clock import Instant
from posthouse.message.message import Kind, Message

if TYPE_CHECKING:
    from posthouse.cli.stores import Stores
    from posthouse.contracts.store import Books, Deceased
    from posthouse.contracts.transport import DeadLetter
    from posthouse.runtime.steps.here import Here
    from posthouse.runtime.steps.intervening import Did
    from posthouse.runtime.steps.receiving import Answer

PAGE: Final = 100
AT_ONCE: Final = 200


class Letter(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A dead letter as scripts read it.

    Attributes:
        id: what it is called by: "12" in the transport, "prices:12" in a store.
        operation: what was asked, or the subscription that should have heard; also the name of its queue.
        kept: "queue" or "store".
        state: parked (undecided) or failed (decided).
        code: of the error that ended it.
        reason: its text.
        attempts: how often it was run.
        at: when it was given up.
        cause: a fingerprint; letters with the same one are one group.
        message_id: of the message.
        source: who sent it.
        detail: the traceback.
        data: of the message.
    """

    id: str
    operation: str
    kept: str
    state: str
    code: str
    reason: str
    attempts: int
    at: Instant
    cause: str
    message_id: str = ""
    source: str = ""
    detail: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class Wanted(msgspec.Struct, frozen=True):
    """Which letters are meant; empty fields mean all.

    Attributes:
        operation: of the letter.
        code: of its error.
        cause: the fingerprint of its cause, or the beginning of it.
    """

    operation: str = ""
    code: str = ""
    cause: str = ""

    def __bool__(self) -> bool:
        """Say whether anything is said."""
        return bool(self.operation or self.code or self.cause)

    def means(self, letter: Letter) -> bool:
        """Say whether a letter is meant."""
        return (not self.code or letter.code == self.code) and letter.cause.startswith(self.cause)


async def letters(stores: Stores, wanted: Wanted) -> AsyncIterator[Letter]:
    """Yield the letters that are meant, page by page: there may be more of them than memory holds."""
    after = ""
    while page := await stores.host.transport.dead(queue=wanted.operation, after=after, limit=PAGE):
        for dead in page:
            if wanted.means(letter := _of_transport(dead)):
                yield letter
        after = page[-1].id
    for service, store in stores.by_service.items():
        last = 0
        while deceased := await store.read(
            lambda books, last=last: books.dead_letters(operation=wanted.operation, after=last, limit=PAGE)
        ):
            for each in deceased:
                if wanted.means(letter := _of_store(service, each)):
                    yield letter
            last = deceased[-1].number


# --- changing ---------------------------------------------------------------------------------------------


async def replay(stores: Stores, ids: Sequence[str], *, as_new: bool, really: bool) -> dict[str, tuple[Did, str]]:
    """Run what these letters of stores ask again; return what became of each, with the id of a new request.

    Args:
        stores: all of them.
        ids: of letters of stores.
        as_new: those that are decided too, as new requests.
        really: if not, only say what would become of each.
    """
    from posthouse.runtime.steps.here import Here

    became: dict[str, tuple[Did, str]] = {}
    for service, numbers in _by_service(ids):
        here = Here(service, peer="", now=stores.clock.now, directory=stores.host.directory)
        new_id = stores.host.seams.new_id if as_new else None
        step = partial(_replay, numbers=numbers, here=here, new_id=new_id)
        did = await stores.change(service, step, name="dead replay", really=really)
        became |= {f"{service}:{number}": what for number, what in zip(numbers, did, strict=True)}
    return became


def _replay(
    books: Books, numbers: Sequence[int], here: Here, new_id: Callable[[], str] | None
) -> list[tuple[Did, str]]:
    from posthouse.runtime.steps import intervening
    from posthouse.runtime.steps.intervening import Did

    became: list[tuple[Did, str]] = []
    for number in numbers:
        did, id = intervening.replay(books, number, now=here.now()), ""
        if did is Did.DECIDED and new_id is not None:
            id = new_id()
            did = intervening.replay_as_new(books, number, here, id=id)
        became.append((did, id))
    return became


async def drop(stores: Stores, ids: Sequence[str], *, really: bool) -> dict[str, Did]:
    """Give up what these letters of stores are about, and tell those who asked; return what became of each."""
    from posthouse.runtime.journal.courier import Courier
    from posthouse.runtime.steps.here import Here

    became: dict[str, Did] = {}
    for service, numbers in _by_service(ids):
        here = Here(service, peer="", now=stores.clock.now, directory=stores.host.directory)
        answers: list[Answer] = []

        step = partial(_drop, numbers=numbers, here=here, answers=answers)
        did = await stores.change(service, step, name="dead drop", really=really)
        became |= {f"{service}:{number}": what for number, what in zip(numbers, did, strict=True)}
        if really:  # who does not hear of it asks again, and is told then
            Courier(stores.host.transport, stores.host.directory).answer(answers)
    return became


def _drop(books: Books, numbers: Sequence[int], here: Here, answers: list[Answer]) -> list[Did]:
    from posthouse.runtime.steps import intervening

    answers.clear()
    return [intervening.drop(books, number, here, answers) for number in numbers]


def _by_service(ids: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return the numbers of letters by service, in portions of one step."""
    numbers: dict[str, list[int]] = {}
    for id in ids:
        service, _, number = id.partition(":")
        numbers.setdefault(service, []).append(int(number))
    return [
        (service, those[start : start + AT_ONCE])
        for service, those in numbers.items()
        for start in range(0, len(those), AT_ONCE)
    ]


# --- reading ----------------------------------------------------------------------------------------------


def _of_transport(dead: DeadLetter) -> Letter:
    from posthouse.runtime.journal.ending import fingerprint

    outcome = dead.outcome
    letter = Letter(
        id=dead.id,
        operation=dead.queue,
        kept="queue",
        state=outcome.state,
        code=outcome.code,
        reason=outcome.reason,
        attempts=dead.attempts,
        at=dead.at,
        cause=fingerprint(dead.queue, outcome.code, outcome.reason, outcome.detail),
        detail=outcome.detail,
    )
    return _with_message(letter, message_of(dead.frame))


def _of_store(service: str, deceased: Deceased) -> Letter:
    letter = Letter(
        id=f"{service}:{deceased.number}",
        operation=deceased.operation,
        kept="store",
        state=deceased.state,
        code=deceased.code,
        reason=deceased.reason,
        attempts=deceased.attempts,
        at=deceased.at,
        cause=deceased.cause,
        message_id=deceased.id,
        detail=deceased.detail,
    )
    return _with_message(letter, message_of(deceased.frame))


def _with_message(letter: Letter, message: Message | None) -> Letter:
    if message is None:
        return letter
    letter.message_id, letter.source = message.id, message.source
    letter.data = as_json(message.data)
    if message.kind is Kind.REPLY:  # a run for a reply, or an ack, whose data is what it is run for
        from posthouse.runtime.steps.applying import run_of

        request = message_of(run_of(message.data).request)
        letter.data = as_json(b"null" if request is None else request.data)
    return letter
