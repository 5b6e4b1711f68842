"""Topics: what is told goes to every queue that is bound, in one step."""

from __future__ import annotations

import pytest

from posthouse.contracts.transport import ACCEPTED, QueueSpec, Released, Transport
from posthouse.errors import QueueUnknownError
from posthouse.testing.conformance.engine import OnOneEngine, frames_of, tell, to, tries_of

MET = "greeter.met"
HELLO = "greeter.hello"
AUDIT = "audit.note"


class TopicTests(OnOneEngine):
    """Topics and bindings."""

    async def test_what_is_told_goes_to_every_bound_queue(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(AUDIT))
        await transport.bind(MET, HELLO)
        await transport.bind(MET, AUDIT)

        await other.send(tell(MET, b"1", b"2"))

        assert frames_of(await self.take(transport, HELLO, 2)) == [b"1", b"2"]
        assert frames_of(await self.take(transport, AUDIT, 2)) == [b"1", b"2"]

    async def test_a_topic_without_queues_takes_a_message_and_forgets_it(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        await transport.send(tell(MET, b"1"))

        await transport.bind(MET, HELLO)
        assert await transport.receive(HELLO, credit=10) == []

    async def test_binding_twice_is_binding_once(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.bind(MET, HELLO)

        await other.bind(MET, HELLO)

        await transport.send(tell(MET, b"1"))
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"1"]
        assert await transport.receive(HELLO, credit=10) == []

    async def test_binding_a_queue_that_nobody_declared_is_an_error(self, transport: Transport):
        with pytest.raises(QueueUnknownError):
            await transport.bind(MET, "greeter.unheard")

        assert await transport.bindings() == []

    async def test_an_unbound_queue_gets_no_more_and_keeps_what_it_holds(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(AUDIT))
        await transport.bind(MET, HELLO)
        await transport.bind(MET, AUDIT)
        await transport.send(tell(MET, b"1"))

        await other.unbind(MET, HELLO)

        await transport.send(tell(MET, b"2"))
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"1"]
        assert await transport.receive(HELLO, credit=10) == []
        assert frames_of(await self.take(transport, AUDIT, 2)) == [b"1", b"2"]

    async def test_unbinding_what_is_not_bound_is_no_error(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))

        await transport.unbind(MET, HELLO)

        assert await transport.bindings() == []

    async def test_a_queue_may_be_bound_to_several_topics(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.bind(MET, HELLO)
        await transport.bind("greeter.parted", HELLO)

        await transport.send([*tell(MET, b"1"), *tell("greeter.parted", b"2")])

        assert frames_of(await self.take(transport, HELLO, 2)) == [b"1", b"2"]

    async def test_a_deleted_queue_is_bound_no_more_even_when_it_is_made_again(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.bind(MET, HELLO)

        await transport.delete(HELLO)
        await transport.declare(QueueSpec(HELLO))

        await transport.send(tell(MET, b"1"))
        assert await transport.bindings() == []
        assert await transport.receive(HELLO, credit=10) == []

    async def test_a_queue_that_is_declared_again_stays_bound(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO))
        await transport.bind(MET, HELLO)

        await other.declare(QueueSpec(HELLO, capacity=5))

        await transport.send(tell(MET, b"1"))
        assert frames_of(await self.take(transport, HELLO, 1)) == [b"1"]

    async def test_each_queue_settles_its_own_copy(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(AUDIT))
        await transport.bind(MET, HELLO)
        await transport.bind(MET, AUDIT)
        await transport.send(tell(MET, b"1"))
        [greeted] = await self.take(transport, HELLO, 1)
        [noted] = await self.take(transport, AUDIT, 1)

        await transport.settle([(greeted, ACCEPTED), (noted, Released())])

        assert await transport.receive(HELLO, credit=10) == []
        assert tries_of(await self.take(transport, AUDIT, 1)) == [(b"1", 2, 1)]

    async def test_topics_and_queues_may_be_mixed_in_one_send(self, transport: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(AUDIT))
        await transport.bind(MET, AUDIT)

        await transport.send([*to(HELLO, b"1"), *tell(MET, b"2"), *to(AUDIT, b"3")])

        assert frames_of(await self.take(transport, HELLO, 1)) == [b"1"]
        assert frames_of(await self.take(transport, AUDIT, 2)) == [b"2", b"3"]

    async def test_a_topic_and_a_queue_of_one_name_are_two_things(self, transport: Transport):
        await transport.declare(QueueSpec(MET))

        await transport.send(tell(MET, b"1"))
        await transport.send(to(MET, b"2"))

        assert frames_of(await self.take(transport, MET, 1)) == [b"2"]
        assert await transport.receive(MET, credit=10) == []

    async def test_the_bindings_are_listed(self, transport: Transport, other: Transport):
        await transport.declare(QueueSpec(HELLO), QueueSpec(AUDIT))
        await transport.bind(MET, HELLO)
        await transport.bind(MET, AUDIT)
        await transport.bind("greeter.parted", HELLO)

        listed = await other.bindings()

        assert sorted(listed) == [(MET, AUDIT), (MET, HELLO), ("greeter.parted", HELLO)]
