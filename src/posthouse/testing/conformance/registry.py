"""The whole registry contract, as one suite: three things with three lives, and who is told of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, ClassVar, Protocol

import msgspec
import pytest

from posthouse.contracts.registry import (
    Contract,
    EventRecord,
    Instance,
    OperationRecord,
    Registry,
    SubscriptionRecord,
)
from posthouse.message.message import Mode
from posthouse.testing.clock import ManualClock

if TYPE_CHECKING:
    from posthouse.clock import Seconds
    from posthouse.testing.conformance.engine import PassTime, WipeEngine

GREETED = SubscriptionRecord(name="greeter.greeted", topic="people.met", mode=Mode.QUEUED)
PARTED = SubscriptionRecord(name="greeter.parted", topic="people.left", mode=Mode.VOLATILE)
GREETER = Contract(
    service="greeter",
    version="1",
    operations=(
        OperationRecord(
            name="greeter.hello",
            mode=Mode.QUEUED,
            request={"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            reply={"type": "null"},
            http="POST /hello/{name}",
            status=201,
            key="name",
            rejects=(("greeter.asleep", 409), ("greeter.shy", 422)),
            exhausted="fail",
        ),
        OperationRecord(name="greeter.raw", mode=Mode.VOLATILE, whole_request=True),
    ),
    events=(EventRecord(name="greeter.met", mode=Mode.JOURNALED, data={"type": "string"}, key="", retain=3600.0),),
    subscriptions=(GREETED,),
)
AUDIT = Contract(
    service="audit",
    version="7",
    subscriptions=(SubscriptionRecord(name="audit.note", topic="greeter.met", mode=Mode.QUEUED),),
)
ONE = Instance(id="greeter-1", service="greeter", peer="one", pid=101, host="here", started=1.0)
TWO = Instance(id="greeter-2", service="greeter", peer="two", pid=102, host="there", started=2.0)


class MakeRegistry(Protocol):
    """Makes a registry on the test's engine."""

    def __call__(self, peer: str) -> Registry:
        """Return a registry that is not open yet; each call is another process's, as far as anyone can see."""
        ...


class Bell:
    """Counts how often a registry rang."""

    def __init__(self, registry: Registry, *, patience: Seconds, quiet: Seconds) -> None:
        self.rings = 0
        self._rung = asyncio.Event()
        self._patience = patience
        self._quiet = quiet
        registry.watch(self._ring)

    def _ring(self) -> None:
        self.rings += 1
        self._rung.set()

    async def until_rung(self) -> None:
        """Wait for a ring, and forget it."""
        async with asyncio.timeout(self._patience):
            await self._rung.wait()
        await self.rings_now()

    async def rings_now(self) -> int:
        """Return how often it rang since it was asked; listen a while for what is on its way."""
        silent = False
        while not silent:
            self._rung.clear()
            try:
                async with asyncio.timeout(self._quiet):
                    await self._rung.wait()
            except TimeoutError:
                silent = True
        rings, self.rings = self.rings, 0
        return rings


class RegistrySuite:
    """What `posthouse.contracts.registry.Registry` promises. Give it the fixture `make_registry`.

    Attributes:
        patience: how long a test waits for what must happen, in seconds; only a failing test waits so long.
        quiet: how long a test listens for a ring that must not come, in seconds; longer than a ring needs.
    """

    pytestmark = pytest.mark.anyio
    patience: ClassVar[Seconds] = 10.0
    quiet: ClassVar[Seconds] = 0.1

    # --- what the tests stand on ---------------------------------------------------------------------

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio."""
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Give the clock that `make_registry` hands in."""
        return ManualClock()

    @pytest.fixture
    def make_registry(self) -> MakeRegistry:
        """Give what makes registries on one engine that nobody has used before. Override this."""
        raise NotImplementedError("a suite needs its fixture `make_registry`; see posthouse.testing.conformance")

    @pytest.fixture
    def pass_time(self, clock: ManualClock) -> PassTime:
        """Give what lets time pass on the engine. Override it where the engine has a clock of its own."""

        async def advance(by: Seconds) -> None:
            clock.advance(by)

        return advance

    @pytest.fixture
    def wipe_engine(self) -> WipeEngine:
        """Give what deletes all that the engine holds, while it is used. Override this, or its tests are skipped."""
        pytest.skip("nothing says how to wipe the engine; see the fixture `wipe_engine`")

    @pytest.fixture
    async def registry(self, make_registry: MakeRegistry) -> AsyncIterator[Registry]:
        """Give a first process's registry."""
        registry = make_registry("one")
        await registry.open()
        yield registry
        await registry.close()

    @pytest.fixture
    async def other(self, make_registry: MakeRegistry, registry: Registry) -> AsyncIterator[Registry]:
        """Give a second process's registry on the same engine."""
        other = make_registry("two")
        await other.open()
        yield other
        await other.close()

    def bell(self, registry: Registry) -> Bell:
        """Watch a registry."""
        return Bell(registry, patience=self.patience, quiet=self.quiet)

    # --- contracts -----------------------------------------------------------------------------------

    async def test_a_new_engine_knows_nothing(self, registry: Registry):
        known = (await registry.contracts(), await registry.subscriptions(), await registry.instances())

        assert known == ([], [], [])

    async def test_an_announced_contract_is_known_to_all_as_it_was_announced(self, registry: Registry, other: Registry):
        await registry.announce(GREETER)

        [contract] = await other.contracts()
        assert msgspec.structs.replace(contract, announced=0.0) == GREETER

    async def test_a_contract_says_since_when_it_is_as_it_is(
        self, registry: Registry, clock: ManualClock, pass_time: PassTime
    ):
        await registry.announce(GREETER)
        since = clock.now()
        await pass_time(60.0)

        await registry.announce(GREETER)

        [contract] = await registry.contracts()
        assert contract.announced == pytest.approx(since, abs=1.0)

    async def test_a_new_contract_replaces_that_of_its_service_and_no_other(self, registry: Registry, other: Registry):
        await registry.announce(GREETER)
        await registry.announce(AUDIT)

        await other.announce(Contract(service="greeter", version="2"))

        assert [(contract.service, contract.version) for contract in await registry.contracts()] == [
            ("audit", "7"),
            ("greeter", "2"),
        ]

    async def test_contracts_are_listed_by_name(self, registry: Registry):
        for service in ("shop", "audit", "prices"):
            await registry.announce(Contract(service=service, version="1"))

        assert [contract.service for contract in await registry.contracts()] == ["audit", "prices", "shop"]

    async def test_a_contract_outlives_the_process_that_announced_it(self, registry: Registry, other: Registry):
        await other.announce(GREETER)

        await other.close()

        assert [contract.service for contract in await registry.contracts()] == ["greeter"]
        assert await registry.subscriptions() == [GREETED]

    async def test_a_forgotten_contract_is_gone_while_its_subscriptions_and_instances_stay(
        self, registry: Registry, other: Registry
    ):
        await registry.announce(GREETER)
        await registry.announce(AUDIT)
        await registry.register([ONE])

        there_was_one = await other.forget("greeter")

        assert there_was_one
        assert [contract.service for contract in await registry.contracts()] == ["audit"]
        assert [record.name for record in await registry.subscriptions()] == ["audit.note", "greeter.greeted"]
        assert [instance.id for instance in await registry.instances()] == ["greeter-1"]

    async def test_forgetting_what_is_not_known_says_so(self, registry: Registry):
        assert not await registry.forget("greeter")

    # --- subscriptions -------------------------------------------------------------------------------

    async def test_subscriptions_come_with_the_contract_and_are_listed_by_name(
        self, registry: Registry, other: Registry
    ):
        await registry.announce(msgspec.structs.replace(GREETER, subscriptions=(PARTED, GREETED)))
        await registry.announce(AUDIT)

        listed = await other.subscriptions()

        assert listed == [AUDIT.subscriptions[0], GREETED, PARTED]

    async def test_a_subscription_that_is_declared_no_more_stays_as_undeclared(self, registry: Registry):
        await registry.announce(msgspec.structs.replace(GREETER, subscriptions=(GREETED, PARTED)))

        await registry.announce(msgspec.structs.replace(GREETER, subscriptions=(PARTED,)))

        assert await registry.subscriptions() == [msgspec.structs.replace(GREETED, declared=False), PARTED]

    async def test_a_subscription_that_is_declared_again_is_declared(self, registry: Registry):
        await registry.announce(GREETER)
        await registry.announce(msgspec.structs.replace(GREETER, subscriptions=()))

        await registry.announce(GREETER)

        assert await registry.subscriptions() == [GREETED]

    async def test_a_subscription_follows_the_newest_contract(self, registry: Registry):
        await registry.announce(GREETER)
        moved = msgspec.structs.replace(GREETED, topic="people.arrived", mode=Mode.JOURNALED)

        await registry.announce(msgspec.structs.replace(GREETER, subscriptions=(moved,)))

        assert await registry.subscriptions() == [moved]

    async def test_a_contract_leaves_the_subscriptions_of_other_services_alone(self, registry: Registry):
        await registry.announce(AUDIT)

        await registry.announce(msgspec.structs.replace(GREETER, subscriptions=()))

        assert await registry.subscriptions() == list(AUDIT.subscriptions)

    async def test_a_removed_subscription_is_gone_and_no_other(self, registry: Registry, other: Registry):
        await registry.announce(GREETER)
        await registry.announce(AUDIT)

        there_was_one = await other.unsubscribe("greeter.greeted")

        assert there_was_one
        assert [record.name for record in await registry.subscriptions()] == ["audit.note"]

    async def test_removing_a_subscription_that_is_not_there_says_so(self, registry: Registry):
        assert not await registry.unsubscribe("greeter.greeted")

    # --- instances -----------------------------------------------------------------------------------

    async def test_a_registered_instance_is_known_to_all_with_its_heartbeat(
        self, registry: Registry, other: Registry, clock: ManualClock
    ):
        await registry.register([msgspec.structs.replace(ONE, load=3, draining=True, store="s-1")])

        [instance] = await other.instances()
        assert msgspec.structs.replace(instance, seen=0.0) == msgspec.structs.replace(
            ONE, load=3, draining=True, store="s-1"
        )
        assert instance.seen == pytest.approx(clock.now(), abs=1.0)

    async def test_two_instances_of_a_service_are_listed_oldest_first(self, registry: Registry, other: Registry):
        await other.register([TWO])
        await registry.register([ONE])

        assert [instance.id for instance in await registry.instances()] == ["greeter-1", "greeter-2"]

    async def test_a_heartbeat_brings_load_and_draining_up_to_date(self, registry: Registry, other: Registry):
        await registry.register([ONE])

        await registry.register([msgspec.structs.replace(ONE, load=5, draining=True)])

        [instance] = await other.instances()
        assert (instance.load, instance.draining) == (5, True)

    async def test_an_instance_is_there_for_three_heartbeats_and_no_longer(
        self, registry: Registry, other: Registry, pass_time: PassTime
    ):
        await registry.register([ONE])

        await pass_time(3 * registry.heartbeat - 1.0)
        before = [instance.id for instance in await other.instances()]
        await pass_time(2.0)
        after = [instance.id for instance in await other.instances()]

        assert (before, after) == (["greeter-1"], [])

    async def test_a_heartbeat_keeps_an_instance(self, registry: Registry, other: Registry, pass_time: PassTime):
        await registry.register([ONE, TWO])

        await pass_time(2 * registry.heartbeat)
        await registry.register([TWO])
        await pass_time(2 * registry.heartbeat)

        assert [instance.id for instance in await other.instances()] == ["greeter-2"]

    async def test_an_instance_whose_lease_ran_out_can_come_back(
        self, registry: Registry, other: Registry, pass_time: PassTime
    ):
        await registry.register([ONE])
        await pass_time(4 * registry.heartbeat)
        assert await other.instances() == []

        await registry.register([ONE])

        assert [instance.id for instance in await other.instances()] == ["greeter-1"]

    async def test_an_instance_that_leaves_is_gone_and_no_other(self, registry: Registry, other: Registry):
        await registry.register([ONE, TWO])

        await registry.leave(["greeter-1", "not-there"])

        assert [instance.id for instance in await other.instances()] == ["greeter-2"]

    async def test_closing_takes_this_process_s_instances_out_and_no_others(self, registry: Registry, other: Registry):
        await registry.register([ONE])
        await other.register([TWO])

        await other.close()

        assert [instance.id for instance in await registry.instances()] == ["greeter-1"]

    # --- who is told ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("change", ["announce", "replace", "forget", "unsubscribe", "register", "drain", "leave"])
    @pytest.mark.parametrize("by", ["the same process", "another process"])
    async def test_a_change_rings(self, registry: Registry, other: Registry, change: str, by: str):
        await other.announce(GREETER)
        await other.register([ONE])
        bell = self.bell(registry)
        await bell.rings_now()
        changer = registry if by == "the same process" else other

        match change:
            case "announce":
                await changer.announce(AUDIT)
            case "replace":
                await changer.announce(msgspec.structs.replace(GREETER, version="2"))
            case "forget":
                await changer.forget("greeter")
            case "unsubscribe":
                await changer.unsubscribe("greeter.greeted")
            case "register":
                await changer.register([TWO])
            case "drain":
                await changer.register([msgspec.structs.replace(ONE, draining=True)])
            case _:
                await changer.leave(["greeter-1"])

        await bell.until_rung()

    async def test_announcing_the_same_again_changes_nothing_and_rings_nobody(
        self, registry: Registry, other: Registry, pass_time: PassTime
    ):
        await registry.announce(GREETER)
        before = (await other.contracts(), await other.subscriptions())
        bells = [self.bell(registry), self.bell(other)]
        for bell in bells:
            await bell.rings_now()
        await pass_time(1.0)

        await registry.announce(GREETER)
        await other.announce(GREETER)

        assert [await bell.rings_now() for bell in bells] == [0, 0]
        assert (await other.contracts(), await other.subscriptions()) == before

    async def test_a_heartbeat_rings_nobody(self, registry: Registry, other: Registry, pass_time: PassTime):
        await registry.register([ONE])
        bells = [self.bell(registry), self.bell(other)]
        for bell in bells:
            await bell.rings_now()

        for load in range(3):
            await pass_time(1.0)
            await registry.register([msgspec.structs.replace(ONE, load=load)])

        assert [await bell.rings_now() for bell in bells] == [0, 0]

    async def test_what_changed_can_be_read_when_the_bell_rings(self, registry: Registry, other: Registry):
        bell = self.bell(other)
        await bell.rings_now()

        await registry.announce(GREETER)
        await bell.until_rung()

        assert [contract.service for contract in await other.contracts()] == ["greeter"]

    # --- an engine that is wiped -----------------------------------------------------------------------

    async def wipe(self, wipe_engine: WipeEngine, *registries: Registry) -> None:
        """Wipe the engine, and wait until these are told."""
        told = [asyncio.Event() for _ in registries]
        for registry, event in zip(registries, told, strict=True):
            registry.on_reset(event.set)
        await wipe_engine()
        async with asyncio.timeout(self.patience):
            for event in told:
                await event.wait()

    async def test_a_wiped_engine_knows_nothing(self, wipe_engine: WipeEngine, registry: Registry, other: Registry):
        await registry.announce(GREETER)
        await registry.register([ONE])

        await self.wipe(wipe_engine, registry, other)

        for each in registry, other:
            assert (await each.subscriptions(), await each.instances()) == ([], [])

    async def test_a_wiped_engine_rings(self, wipe_engine: WipeEngine, registry: Registry, other: Registry):
        await registry.announce(GREETER)
        bells = [self.bell(registry), self.bell(other)]
        for bell in bells:
            await bell.rings_now()

        await self.wipe(wipe_engine, registry, other)

        for bell in bells:
            await bell.until_rung()

    async def test_what_is_told_again_is_known_to_all(
        self, wipe_engine: WipeEngine, registry: Registry, other: Registry
    ):
        await registry.announce(GREETER)
        await registry.register([ONE])

        await self.wipe(wipe_engine, registry, other)
        await registry.announce(GREETER)
        await registry.register([ONE])

        assert [contract.service for contract in await other.contracts()] == ["greeter"]
        assert await other.subscriptions() == [GREETED]
        assert [instance.id for instance in await other.instances()] == ["greeter-1"]

    async def test_everyone_is_told_that_all_is_gone(
        self, wipe_engine: WipeEngine, registry: Registry, other: Registry
    ):
        await registry.announce(GREETER)

        await self.wipe(wipe_engine, registry, other)

        assert (await registry.contracts(), await other.contracts()) == ([], [])
