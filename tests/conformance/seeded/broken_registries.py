"""Registries that break the contract, each in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import pytest

from posthouse.backends.memory import Broker, MemoryRegistry
from posthouse.clock import Clock
from posthouse.contracts.registry import Contract, Instance, SubscriptionRecord
from posthouse.errors import UnavailableError
from posthouse.testing import ManualClock
from posthouse.testing.conformance import MakeRegistry, RegistrySuite, WipeEngine


class NeverExpires(MemoryRegistry):
    """Goes by a clock that stands still."""

    def __init__(self, broker: Broker, *, clock: Clock) -> None:
        super().__init__(broker, clock=ManualClock(clock.now()))


class RingsAtHeartbeats(MemoryRegistry):
    """Takes a heartbeat for a change."""

    async def register(self, instances: Sequence[Instance]) -> None:
        """Change something else, and back again."""
        await super().register(instances)
        await self.announce(Contract(service="noise", version="1"))
        await self.forget("noise")


class RingsNobody(MemoryRegistry):
    """Tells nobody of anything."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Forget who watches."""


class RingsOnlyAtHome(MemoryRegistry):
    """Tells of its own changes only."""

    def __init__(self, broker: Broker, *, clock: Clock) -> None:
        super().__init__(broker, clock=clock)
        self.bells: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Remember it here."""
        self.bells.append(changed)

    async def announce(self, contract: Contract) -> None:
        """Ring at home."""
        known = await self.contracts()
        await super().announce(contract)
        if known != await self.contracts():
            for ring in self.bells:
                ring()


class AnnouncesAgain(MemoryRegistry):
    """Takes the same contract for a new one."""

    async def announce(self, contract: Contract) -> None:
        """Make it a new one."""
        await self.forget(contract.service)
        await super().announce(contract)


class DeletesUndeclared(MemoryRegistry):
    """Removes a subscription as soon as no contract has it."""

    async def announce(self, contract: Contract) -> None:
        """Clean up too much."""
        await super().announce(contract)
        for record in await self.subscriptions():
            if not record.declared:
                await self.unsubscribe(record.name)


class CallsAllDeclared(MemoryRegistry):
    """Does not show that a subscription is declared no more."""

    async def subscriptions(self) -> list[SubscriptionRecord]:
        """Show the old face."""
        return [msgspec.structs.replace(record, declared=True) for record in await super().subscriptions()]


class ForgetsTooMuch(MemoryRegistry):
    """Forgets the subscriptions together with the contract."""

    async def forget(self, service: str) -> bool:
        """Take them along."""
        for record in await self.subscriptions():
            if record.name.startswith(f"{service}."):
                await self.unsubscribe(record.name)
        return await super().forget(service)


class KeepsTheFirst(MemoryRegistry):
    """Never replaces a contract."""

    async def announce(self, contract: Contract) -> None:
        """Refuse in silence."""
        if contract.service not in [known.service for known in await self.contracts()]:
            await super().announce(contract)


class LosesSchemas(MemoryRegistry):
    """Keeps the names of operations, and not what they take."""

    async def contracts(self) -> list[Contract]:
        """Strip them."""
        return [
            msgspec.structs.replace(
                contract,
                operations=tuple(msgspec.structs.replace(record, request={}) for record in contract.operations),
            )
            for contract in await super().contracts()
        ]


class HearsFirstHeartbeats(MemoryRegistry):
    """Ignores all heartbeats but the first."""

    async def register(self, instances: Sequence[Instance]) -> None:
        """Take only the new ones."""
        known = {instance.id for instance in await self.instances()}
        await super().register([instance for instance in instances if instance.id not in known])


class SendsAllAway(MemoryRegistry):
    """Takes everybody's instances out when it closes."""

    async def close(self) -> None:
        """Take them all."""
        with suppress(UnavailableError):  # closed before
            await self.leave([instance.id for instance in await self.instances()])
        await super().close()


class LeavesNobody(MemoryRegistry):
    """Leaves its instances behind when it closes."""

    def __init__(self, broker: Broker, *, clock: Clock) -> None:
        super().__init__(broker, clock=clock)
        self.hidden = MemoryRegistry(broker, clock=clock)

    async def register(self, instances: Sequence[Instance]) -> None:
        """Enter them by another door."""
        await self.hidden.open()
        await self.hidden.register(instances)


class TellsOfNoReset(MemoryRegistry):
    """Begins anew in silence when the engine was wiped."""

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Forget who asks."""


FAULTS: Final[Mapping[type[MemoryRegistry], str]] = {
    NeverExpires: "test_an_instance_is_there_for_three_heartbeats_and_no_longer",
    RingsAtHeartbeats: "test_a_heartbeat_rings_nobody",
    RingsNobody: "test_a_change_rings",
    RingsOnlyAtHome: "test_what_changed_can_be_read_when_the_bell_rings",
    AnnouncesAgain: "test_announcing_the_same_again_changes_nothing_and_rings_nobody",
    DeletesUndeclared: "test_a_subscription_that_is_declared_no_more_stays_as_undeclared",
    CallsAllDeclared: "test_a_subscription_that_is_declared_no_more_stays_as_undeclared",
    ForgetsTooMuch: "test_a_forgotten_contract_is_gone_while_its_subscriptions_and_instances_stay",
    KeepsTheFirst: "test_a_new_contract_replaces_that_of_its_service_and_no_other",
    LosesSchemas: "test_an_announced_contract_is_known_to_all_as_it_was_announced",
    HearsFirstHeartbeats: "test_a_heartbeat_keeps_an_instance",
    SendsAllAway: "test_closing_takes_this_process_s_instances_out_and_no_others",
    LeavesNobody: "test_closing_takes_this_process_s_instances_out_and_no_others",
    TellsOfNoReset: "test_everyone_is_told_that_all_is_gone",
}
"""Each, and the test that is there to catch it."""

KINDS: Final = {kind.__name__: kind for kind in (MemoryRegistry, *FAULTS)}
CATCHERS: Final = {kind.__name__: test for kind, test in FAULTS.items()}


class TestBrokenRegistry(RegistrySuite):
    """The suite, over all of them and a sound one."""

    patience = 0.3  # much is waited for here that never comes
    quiet = 0.01  # memory rings in the next turn of the loop

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
    def make_registry(self, broker: Broker, fault: str, clock: ManualClock) -> MakeRegistry:
        """Give what makes registries with this fault on that broker."""
        return lambda peer: KINDS[fault](broker, clock=clock)
