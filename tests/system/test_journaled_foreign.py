"""Two stores behind one name: the second one is refused, and where it slipped in it has no effect and is told of."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from posthouse.backends import open_backend
from posthouse.clock import SystemClock
from tests.system.journaled import JournaledYard
from tests.system.yard import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

SECOND_LIVES = "SELECT count(*) FROM posthouse_members"


@pytest.fixture
def yard() -> Iterator[JournaledYard]:
    with JournaledYard() as yard:
        yield yard


def says(yard: JournaledYard, *, second: bool = False) -> dict[str, str]:
    """What processes are told that share a transport; the second store lies elsewhere."""
    return {
        "POSTHOUSE_ENV": "prod",
        "POSTHOUSE_TRANSPORT": f"sqlite:{yard.data}",
        "POSTHOUSE_STORE": f"sqlite:{second_place(yard) if second else yard.data}",
    }


def second_place(yard: JournaledYard) -> Path:
    return yard.folder / "second"


def forget_instance(yard: JournaledYard, pid: int) -> None:
    """Take an instance out of the registry, as if its lease had run out."""

    async def withdraw() -> None:
        transport, registry = open_backend(f"sqlite:{yard.data}", peer=os.urandom(8).hex(), clock=SystemClock())
        await transport.open()
        try:
            await registry.leave([instance.id for instance in await registry.instances() if instance.pid == pid])
        finally:
            await transport.close()

    asyncio.run(withdraw())


def test_a_second_store_is_refused_at_start(yard: JournaledYard) -> None:
    yard.begin("prices 1", **says(yard))
    yard.begin("cust", STORM_PLAIN="1", **says(yard))
    yard.wait_for(lambda: yard.asked >= 20, "the first store is asked")

    second = yard.begin("prices 2", **says(yard, second=True))

    assert second.wait(PATIENCE) == 1
    del yard.running["prices 2"]
    assert any("with another store than the one here" in line for line in yard.log())
    report = yard.end()
    assert not report.findings, report


def test_a_second_store_that_slips_in_has_no_effect_and_raises_an_alarm(yard: JournaledYard) -> None:
    first = yard.begin("prices 1", **says(yard))
    yard.begin("cust", STORM_PLAIN="1", **says(yard))
    yard.wait_for(lambda: yard.asked >= 20, "the first store is asked")
    first.send_signal(signal.SIGSTOP)  # nothing of it is heard while the second one looks around
    forget_instance(yard, first.pid)

    yard.begin("prices 2", **says(yard, second=True))
    yard.wait_for(
        lambda: any("asks for another store of ours" in line for line in yard.log()), "the alarm is raised", within=60
    )
    assert effects_of_second(yard) == 0
    yard.kill("prices 2")
    first.send_signal(signal.SIGCONT)

    asked = yard.asked
    yard.wait_for(lambda: yard.asked >= asked + 20, "the first store goes on", within=60)
    report = yard.end()
    assert not report.findings, report
    assert effects_of_second(yard) == 0


def effects_of_second(yard: JournaledYard) -> int:
    return len(yard.rows("prices", "SELECT 1 FROM effects", folder=second_place(yard)))
