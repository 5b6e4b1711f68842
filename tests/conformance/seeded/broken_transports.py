"""Transports that break the contract, each in one way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Final
from weakref import WeakKeyDictionary

import msgspec
import pytest

from posthouse.backends.memory import Broker, MemoryTransport
from posthouse.clock import Clock, Seconds
from posthouse.contracts.transport import Delivery, Outcome, Outgoing, QueueSpec, Rejected, Released
from posthouse.testing import ManualClock
from posthouse.testing.conformance import MakeTransport, TransportSuite, WipeEngine


class LosesMessages(MemoryTransport):
    """Confirms every fifth message without storing it."""

    def __init__(self, broker: Broker, *, peer: str, clock: Clock) -> None:
        super().__init__(broker, peer=peer, clock=clock)
        self.sent = count(1)

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Drop some."""
        return super().send([message for message in messages if next(self.sent) % 5])


class StoresAPart(MemoryTransport):
    """Stores the messages of a send one after another, until one does not fit."""

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Store what fits."""
        for message in messages:
            await super().send([message])


class LooksAtFrames(MemoryTransport):
    """Takes frames for text."""

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Strip what looks like a blank."""
        return super().send([Outgoing(m.address, m.frame.strip(b"\x00 \r\n"), m.topic) for m in messages])


class TellsOne(MemoryTransport):
    """Gives what is told on a topic to the first queue only."""

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Choose one queue."""
        bound = dict(reversed(await self.bindings()))
        await super().send(
            [Outgoing(bound[m.address], m.frame) if m.topic and m.address in bound else m for m in messages]
        )


class IgnoresCredit(MemoryTransport):
    """Delivers one more than was asked for."""

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Give too many."""
        return await super().receive(queue, credit=credit + 1, wait=wait)


class YoungestFirst(MemoryTransport):
    """Delivers a batch in the wrong order."""

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Turn it round."""
        return (await super().receive(queue, credit=credit, wait=wait))[::-1]


class DeliversTwice(MemoryTransport):
    """Delivers to a second peer what the first holds."""

    held: Final[WeakKeyDictionary[Broker, dict[str, list[Delivery]]]] = WeakKeyDictionary()

    def __init__(self, broker: Broker, *, peer: str, clock: Clock) -> None:
        super().__init__(broker, peer=peer, clock=clock)
        self.by_peer = self.held.setdefault(broker, {})

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Give what is there, else what another peer was given."""
        given = await super().receive(queue, credit=credit, wait=0.0)
        theirs = [d for peer, held in self.by_peer.items() if peer != self.direct.peer for d in held]
        self.by_peer[self.direct.peer] = given or self.by_peer.get(self.direct.peer, [])
        return given or theirs[:credit] or await super().receive(queue, credit=credit, wait=wait)


class ForgetsAttempts(MemoryTransport):
    """Calls every delivery the first."""

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Count from 1, always."""
        deliveries = await super().receive(queue, credit=credit, wait=wait)
        return [Delivery(d.queue, d.frame, d.tag, 1, d.failures) for d in deliveries]


class NeverWakes(MemoryTransport):
    """Looks for messages when the wait begins, and not again."""

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Sleep through it."""
        given = await super().receive(queue, credit=credit)
        if not given and wait:
            await asyncio.sleep(wait)
        return given


class SwallowsOnCancel(MemoryTransport):
    """Goes on receiving when the receiver has given up."""

    def __init__(self, broker: Broker, *, peer: str, clock: Clock) -> None:
        super().__init__(broker, peer=peer, clock=clock)
        self.tasks: set[asyncio.Task[list[Delivery]]] = set()

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Shield what should end."""
        task = asyncio.create_task(super().receive(queue, credit=credit, wait=wait))
        self.tasks.add(task)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for all of them."""
        await super().close()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class SettlesForOthers(MemoryTransport):
    """Settles a message for whoever says so, with or without a lease."""

    newest: Final[WeakKeyDictionary[Broker, dict[bytes, Delivery]]] = WeakKeyDictionary()

    def __init__(self, broker: Broker, *, peer: str, clock: Clock) -> None:
        super().__init__(broker, peer=peer, clock=clock)
        self.by_frame = self.newest.setdefault(broker, {})

    async def receive(self, queue: str, *, credit: int, wait: Seconds = 0.0) -> list[Delivery]:
        """Remember who was given it last."""
        deliveries = await super().receive(queue, credit=credit, wait=wait)
        self.by_frame.update({delivery.frame: delivery for delivery in deliveries})
        return deliveries

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Settle that one."""
        return super().settle([(self.by_frame.get(d.frame, d), outcome) for d, outcome in outcomes])


class HidesLostLeases(MemoryTransport):
    """Says that all was settled."""

    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> list[Delivery]:
        """Report none."""
        await super().settle(outcomes)
        return []


class _Changes(MemoryTransport):
    """Settles otherwise than it was told."""

    def change(self, outcome: Outcome) -> Outcome:
        """Return what is settled instead."""
        raise NotImplementedError

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Settle something else."""
        return super().settle([(delivery, self.change(outcome)) for delivery, outcome in outcomes])


class ForgetsDelays(_Changes):
    """Delivers a released message at once."""

    def change(self, outcome: Outcome) -> Outcome:
        """Take the delay away."""
        return msgspec.structs.replace(outcome, after=0.0) if isinstance(outcome, Released) else outcome


class CountsUntouched(_Changes):
    """Takes a message that no handler saw for an attempt."""

    def change(self, outcome: Outcome) -> Outcome:
        """Take the mark away."""
        return msgspec.structs.replace(outcome, untouched=False) if isinstance(outcome, Released) else outcome


class BuriesWithoutReason(_Changes):
    """Keeps a dead letter, and not why it is one."""

    def change(self, outcome: Outcome) -> Outcome:
        """Take the reason away."""
        return msgspec.structs.replace(outcome, reason="", detail="") if isinstance(outcome, Rejected) else outcome


class NeverRenews(MemoryTransport):
    """Says that a lease was renewed."""

    async def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Do nothing."""
        return []


class HoldsForEver(MemoryTransport):
    """Never takes a lease back, whatever it says."""

    def __init__(self, broker: Broker, *, peer: str, clock: Clock) -> None:
        super().__init__(broker, peer=peer, clock=clock, lease=1e9)

    @property
    def lease(self) -> Seconds:
        """Say what is not so."""
        return 30.0


class CountsNoBytes(MemoryTransport):
    """Knows no limit in bytes."""

    async def declare(self, *queues: QueueSpec) -> None:
        """Raise it out of sight."""
        await super().declare(*(msgspec.structs.replace(spec, capacity_bytes=1 << 40) for spec in queues))


class NeverHoldsBack(MemoryTransport):
    """Refuses where it should hold a sender back."""

    async def declare(self, *queues: QueueSpec) -> None:
        """Take `wait` for `reject`."""
        await super().declare(
            *(msgspec.structs.replace(s, overflow="reject") if s.overflow == "wait" else s for s in queues)
        )


class EmptiesOnDeclare(MemoryTransport):
    """Makes a queue anew when it is declared again."""

    async def declare(self, *queues: QueueSpec) -> None:
        """Delete it first."""
        for spec in queues:
            await self.delete(spec.name)
        await super().declare(*queues)


class ReplaysAndKeeps(MemoryTransport):
    """Leaves a dead letter where it is when it is replayed."""

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Send copies."""
        letters = [letter for letter in await self.dead() if letter.id in ids]
        await self.send([Outgoing(letter.queue, letter.frame) for letter in letters])
        return [letter.id for letter in letters]


class TakesWhenPeeking(MemoryTransport):
    """Delivers what someone only looks at."""

    async def peek(self, queue: str, *, limit: int = 20) -> list[Delivery]:
        """Take it."""
        return await self.receive(queue, credit=limit)


class LosesDirectInSilence(MemoryTransport):
    """Does not say that a frame was lost."""

    def __init__(self, broker: Broker, *, peer: str, clock: Clock) -> None:
        super().__init__(broker, peer=peer, clock=clock)
        listen = self.direct.listen
        self.direct.listen = lambda receive, lost: listen(receive, lambda _peer, _frames: None)


class TurnsDirectRound(MemoryTransport):
    """Hands direct frames over in the wrong order."""

    def __init__(self, broker: Broker, *, peer: str, clock: Clock) -> None:
        super().__init__(broker, peer=peer, clock=clock)
        listen = self.direct.listen
        self.direct.listen = lambda receive, lost: listen(lambda peer, frames: receive(peer, frames[::-1]), lost)


class TellsOfNoReset(MemoryTransport):
    """Begins anew in silence when the engine was wiped."""

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Forget who asks."""


FAULTS: Final[Mapping[type[MemoryTransport], str]] = {
    LosesMessages: "test_pages_of_dead_letters_hold_each_of_them_once",
    StoresAPart: "test_a_send_that_does_not_fit_as_a_whole_stores_nothing",
    LooksAtFrames: "test_a_frame_arrives_byte_for_byte",
    TellsOne: "test_what_is_told_goes_to_every_bound_queue",
    IgnoresCredit: "test_no_more_messages_are_delivered_than_credit_allows",
    YoungestFirst: "test_messages_come_oldest_first",
    DeliversTwice: "test_a_message_is_not_delivered_twice_while_its_lease_is_good",
    ForgetsAttempts: "test_a_released_message_comes_again_and_counts_attempt_and_failure",
    NeverWakes: "test_a_message_wakes_who_waits_for_it",
    SwallowsOnCancel: "test_a_wait_that_is_canceled_takes_no_message",
    SettlesForOthers: "test_settling_after_the_lease_was_lost_is_reported_and_changes_nothing",
    HidesLostLeases: "test_settling_twice_is_reported_the_second_time",
    ForgetsDelays: "test_a_released_message_comes_back_after_its_delay_and_not_before",
    CountsUntouched: "test_a_release_untouched_counts_neither_attempt_nor_failure",
    BuriesWithoutReason: "test_a_rejected_message_is_kept_with_the_reason_and_never_delivered_again",
    NeverRenews: "test_a_renewed_delivery_is_held_for_another_lease",
    HoldsForEver: "test_a_delivery_whose_lease_ran_out_comes_again_as_the_next_attempt",
    CountsNoBytes: "test_a_queue_that_is_full_of_bytes_refuses_a_message",
    NeverHoldsBack: "test_a_sender_is_held_back_until_there_is_room",
    EmptiesOnDeclare: "test_declaring_a_queue_again_keeps_what_it_holds",
    ReplaysAndKeeps: "test_replaying_twice_delivers_once",
    TakesWhenPeeking: "test_peeking_shows_the_oldest_and_takes_nothing",
    LosesDirectInSilence: "test_frames_to_a_peer_that_is_not_there_are_reported_lost",
    TurnsDirectRound: "test_frames_arrive_in_order_from_the_peer_that_sent_them",
    TellsOfNoReset: "test_every_peer_is_told_that_all_is_gone",
}
"""Each, and the test that is there to catch it."""

KINDS: Final = {kind.__name__: kind for kind in (MemoryTransport, *FAULTS)}
CATCHERS: Final = {kind.__name__: test for kind, test in FAULTS.items()}


class TestBrokenTransport(TransportSuite):
    """The suite, over all of them and a sound one."""

    patience = 0.3  # much is waited for here that never comes

    @pytest.fixture(params=KINDS)
    def fault(self, request: pytest.FixtureRequest) -> str:
        """Name the fault of this run."""
        return request.param

    @pytest.fixture
    def broker(self, fault: str) -> Broker:
        """Give one fresh broker."""
        return Broker(fault)

    @pytest.fixture
    def wipe_engine(self, broker: Broker) -> WipeEngine:
        """Give what wipes it."""

        async def wipe() -> None:
            broker.wipe()

        return wipe

    @pytest.fixture
    def make_transport(self, broker: Broker, fault: str, clock: ManualClock) -> MakeTransport:
        """Give what makes transports with this fault on that broker."""
        return lambda peer: KINDS[fault](broker, peer=peer, clock=clock)
