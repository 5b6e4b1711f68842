"""Leases: what becomes of a delivery, and what becomes of one that nobody settles."""

from __future__ import annotations

import pytest

from posthouse.contracts.transport import ACCEPTED, QueueSpec, Rejected, Released, Transport
from posthouse.testing.conformance.engine import OnOneEngine, PassTime, frames_of, to, tries_of

HELLO = "greeter.hello"


class SettlingTests(OnOneEngine):
    """Settling, renewing, and losing a lease."""

    async def test_an_accepted_message_never_comes_again(self, transport: Transport, pass_time: PassTime):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)

        lost = await transport.settle([(delivery, ACCEPTED)])

        await pass_time(2 * transport.lease)
        assert lost == []
        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_released_message_comes_again_and_counts_attempt_and_failure(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [first] = await self.take(transport, HELLO, 1)

        await transport.settle([(first, Released())])

        [second] = await self.take(transport, HELLO, 1)
        assert (second.frame, second.attempt, second.failures) == (b"tea", 2, 1)

    async def test_a_release_that_no_handler_caused_counts_the_attempt_and_no_failure(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [first] = await self.take(transport, HELLO, 1)

        await transport.settle([(first, Released(failed=False))])

        assert tries_of(await self.take(transport, HELLO, 1)) == [(b"tea", 2, 0)]

    async def test_a_release_untouched_counts_neither_attempt_nor_failure(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [first] = await self.take(transport, HELLO, 1)
        await transport.settle([(first, Released())])
        [second] = await self.take(transport, HELLO, 1)

        await transport.settle([(second, Released(failed=False, untouched=True))])

        assert tries_of(await self.take(transport, HELLO, 1)) == [(b"tea", 2, 1)]

    async def test_attempts_and_failures_add_up(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))

        for failed in (True, False, True):
            [delivery] = await self.take(transport, HELLO, 1)
            await transport.settle([(delivery, Released(failed=failed))])

        assert tries_of(await self.take(transport, HELLO, 1)) == [(b"tea", 4, 2)]

    async def test_a_released_message_goes_before_younger_ones(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2", b"3", b"4"))
        older = await self.take(transport, HELLO, 2)

        await transport.settle([(delivery, Released()) for delivery in reversed(older)])

        assert frames_of(await self.take(transport, HELLO, 4)) == [b"1", b"2", b"3", b"4"]

    @pytest.mark.needs("delay")
    async def test_a_released_message_comes_back_after_its_delay_and_not_before(
        self, transport: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [first] = await self.take(transport, HELLO, 1)

        await transport.settle([(first, Released(after=5.0))])

        assert await transport.receive(HELLO, credit=10) == []
        await pass_time(3.9)
        assert await transport.receive(HELLO, credit=10) == []
        await pass_time(2.1)
        assert tries_of(await transport.receive(HELLO, credit=10)) == [(b"tea", 2, 1)]

    @pytest.mark.needs("delay")
    async def test_a_delayed_message_does_not_hold_up_those_behind_it(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2"))
        [first] = await self.take(transport, HELLO, 1)

        await transport.settle([(first, Released(after=60.0))])

        assert frames_of(await transport.receive(HELLO, credit=10, wait=self.patience)) == [b"2"]

    @pytest.mark.needs("delay")
    async def test_messages_fall_due_each_at_its_own_time(self, transport: Transport, pass_time: PassTime):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2"))
        late, soon = await self.take(transport, HELLO, 2)
        await transport.settle([(late, Released(after=20.0)), (soon, Released(after=10.0))])

        await pass_time(11.0)
        first = await transport.receive(HELLO, credit=10)
        await pass_time(10.0)
        second = await transport.receive(HELLO, credit=10)

        assert (frames_of(first), frames_of(second)) == ([b"2"], [b"1"])

    async def test_a_delivery_whose_lease_ran_out_comes_again_as_the_next_attempt(
        self, transport: Transport, other: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        await self.take(transport, HELLO, 1)

        await pass_time(transport.lease + 1.0)

        assert tries_of(await self.take(other, HELLO, 1)) == [(b"tea", 2, 0)]

    async def test_a_lease_is_good_until_its_time_is_over(
        self, transport: Transport, other: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)

        await pass_time(transport.lease - 1.0)

        assert await other.receive(HELLO, credit=10) == []
        assert await transport.settle([(delivery, ACCEPTED)]) == []

    async def test_a_renewed_delivery_is_held_for_another_lease(
        self, transport: Transport, other: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)

        for _ in range(3):
            await pass_time(transport.lease - 1.0)
            assert await transport.renew([delivery]) == []

        assert await other.receive(HELLO, credit=10) == []
        assert await transport.settle([(delivery, ACCEPTED)]) == []

    async def test_only_what_is_renewed_is_held(self, transport: Transport, other: Transport, pass_time: PassTime):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2"))
        _, kept = await self.take(transport, HELLO, 2)
        await pass_time(transport.lease - 1.0)
        await transport.renew([kept])

        await pass_time(2.0)

        assert frames_of(await self.take(other, HELLO, 1)) == [b"1"]
        assert await other.receive(HELLO, credit=10) == []

    async def test_renewing_a_lost_delivery_reports_it_and_takes_it_from_nobody(
        self, transport: Transport, other: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [mine] = await self.take(transport, HELLO, 1)
        await pass_time(transport.lease + 1.0)
        [theirs] = await self.take(other, HELLO, 1)

        lost = await transport.renew([mine])

        assert lost == [mine]
        assert await other.settle([(theirs, ACCEPTED)]) == []

    @pytest.mark.parametrize(
        "outcome",
        [ACCEPTED, Released(), Rejected("parked", "handler.failed", "no tea")],
        ids=["accepted", "released", "rejected"],
    )
    async def test_settling_after_the_lease_was_lost_is_reported_and_changes_nothing(
        self, transport: Transport, other: Transport, pass_time: PassTime, outcome: Rejected | Released
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [mine] = await self.take(transport, HELLO, 1)
        await pass_time(transport.lease + 1.0)
        [theirs] = await self.take(other, HELLO, 1)

        lost = await transport.settle([(mine, outcome)])

        assert lost == [mine]
        assert await transport.receive(HELLO, credit=10) == []  # the other still holds it
        assert await other.settle([(theirs, Released())]) == []
        assert tries_of(await self.take(transport, HELLO, 1)) == [(b"tea", 3, 1)]

    async def test_settling_twice_is_reported_the_second_time(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.settle([(delivery, Released())])

        lost = await transport.settle([(delivery, ACCEPTED)])

        assert lost == [delivery]
        assert tries_of(await self.take(transport, HELLO, 1)) == [(b"tea", 2, 1)]

    @pytest.mark.needs("dead_letters")
    async def test_a_batch_may_end_in_different_ways(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2", b"3", b"4"))
        done, again, never, back = await self.take(transport, HELLO, 4)

        lost = await transport.settle(
            [
                (done, ACCEPTED),
                (again, Released()),
                (never, Rejected("failed", "handler.failed", "no tea")),
                (back, Released(failed=False, untouched=True)),
            ]
        )

        assert lost == []
        assert tries_of(await self.take(transport, HELLO, 2)) == [(b"2", 2, 1), (b"4", 1, 0)]
        assert [letter.frame for letter in await transport.dead()] == [b"3"]

    async def test_a_lost_delivery_in_a_batch_does_not_keep_the_others_from_being_settled(
        self, transport: Transport, other: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2", b"3"))
        deliveries = await self.take(transport, HELLO, 3)
        await pass_time(transport.lease - 1.0)
        await transport.renew([deliveries[0], deliveries[2]])
        await pass_time(2.0)
        await self.take(other, HELLO, 1)

        lost = await transport.settle([(delivery, ACCEPTED) for delivery in deliveries])

        await pass_time(2 * transport.lease)
        assert lost == [deliveries[1]]
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"2"]
        assert await transport.receive(HELLO, credit=10) == []

    async def test_the_rest_of_a_batch_stays_under_its_lease_when_a_part_is_settled(
        self, transport: Transport, other: Transport, pass_time: PassTime
    ):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2", b"3", b"4"))
        deliveries = await self.take(transport, HELLO, 4)

        await transport.settle([(deliveries[1], ACCEPTED), (deliveries[2], Released())])

        assert frames_of(await self.take(other, HELLO, 1)) == [b"3"]
        assert await other.receive(HELLO, credit=10) == []
        await pass_time(transport.lease + 1.0)
        assert tries_of(await self.take(other, HELLO, 3)) == [(b"1", 2, 0), (b"3", 3, 1), (b"4", 2, 0)]

    async def test_settling_a_delivery_of_a_deleted_queue_is_reported(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)
        await transport.delete(HELLO)

        lost = await transport.settle([(delivery, ACCEPTED)])

        assert lost == [delivery]

    async def test_closing_gives_back_what_is_held_as_untouched(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"1", b"2"))
        await self.take(other, HELLO, 2)

        await other.close()

        assert tries_of(await self.take(transport, HELLO, 2)) == [(b"1", 1, 0), (b"2", 1, 0)]

    async def test_a_lease_is_not_touched_when_another_peer_closes(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.send(to(HELLO, b"tea"))
        [delivery] = await self.take(transport, HELLO, 1)

        await other.close()

        assert await transport.receive(HELLO, credit=10) == []
        assert await transport.settle([(delivery, ACCEPTED)]) == []
