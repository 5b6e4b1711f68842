"""Routes of journaled operations: what is asked, and what comes of it, stands in the gateway's store.

Each gateway here has a host of its own, as in a process of its own, and all have one store. What it takes
to live through a kill is tried out in test_gateway_restart.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from httpx2 import Response
from msgspec import Struct

from posthouse import Context, Service
from posthouse.backends.sqlite.store import MemoryDisk
from posthouse.errors import UnavailableError
from posthouse.protocol.outbox import CallState
from posthouse.runtime.host import Host
from posthouse.runtime.journal import outbox
from tests.system.gateway_world import (
    Door,
    Order,
    World,
    gateway_alone,
    hold_the_store,
    journal_of,
    opened,
    settings_of,
    settled,
    told,
    until,
)

pytestmark = pytest.mark.anyio

LATER = {"prefer": "respond-async"}
TEA = {"sku": "tea"}
_numbers = itertools.count(1)


class Street:
    """A service on a host of its own, and gateways before it that share a store."""

    def __init__(self, name: str, world: World, host: Host, doors: AsyncExitStack) -> None:
        self.world = world
        self.host = host
        self._doors = doors
        self._name = name

    def gateway(self, **config: Any) -> Any:
        """Open a gateway, for `async with`."""
        return gateway_alone(self.world, transport=f"memory:{self._name}", **config)

    async def door(self, **config: Any) -> Door:
        """Open a gateway that stays to the end."""
        return await self._doors.enter_async_context(self.gateway(**config))


@asynccontextmanager
async def street(*, serving: bool = True) -> AsyncGenerator[Street]:
    name = f"street-{next(_numbers)}"
    world = World()
    with MemoryDisk(name):
        async with Host(await settings_of(transport=f"memory:{name}")) as host, AsyncExitStack() as doors:
            await (host.serve if serving else host.announce)(world.shop)
            yield Street(name, world, host, doors)


# --- stored, and found again -----------------------------------------------------------------------------


async def test_what_is_answered_202_stands_in_the_store_and_nothing_is_held_for_it():
    async with opened() as door:
        door.world.gate.clear()

        response = await door.post("/orders", json=TEA, headers=LATER)

        call = await journal_of(door).call(response.json()["id"])
        assert response.status_code == 202
        assert call is not None
        assert (call.operation, call.state) == ("shop.buy", CallState.OPEN)
        assert not journal_of(door).outbox.is_waited_for(call.id)
        door.world.gate.set()


async def test_a_request_that_took_too_long_is_held_no_longer():
    async with opened(gateway={"wait": 0.01}) as door:
        door.world.gate.clear()

        response = await door.post("/orders", json=TEA)

        assert response.status_code == 202
        assert not journal_of(door).outbox.is_waited_for(response.json()["id"])
        door.world.gate.set()
        assert (await settled(door, response.json()["id"])).json() == {"total": 1.5}


async def test_what_was_answered_at_once_can_be_asked_for_too():
    async with opened() as door:
        assert (await door.post("/orders", json=TEA)).json() == {"total": 1.5}

        again = await door.get(f"/requests/{door.world.ids[0]}")

        assert (again.status_code, again.json()) == (200, {"total": 1.5})


async def test_a_gateway_that_is_opened_again_finds_the_outcome_of_what_another_life_was_asked():
    async with street() as there:
        there.world.gate.clear()
        async with there.gateway() as before:
            accepted = await before.post("/orders", json={"sku": "no money"}, headers=LATER)
        there.world.gate.set()

        async with there.gateway() as after:
            outcome = await settled(after, accepted.json()["id"])

        assert (outcome.status_code, told(outcome)["code"], told(outcome)["bank"]) == (402, "card.refused", "first")
        assert len(there.world.seen) == 1


async def test_each_gateway_on_the_store_knows_the_requests_of_the_others():
    async with street() as there:
        one, other = await there.door(), await there.door()
        there.world.gate.clear()
        id = (await one.post("/orders", json=TEA, headers=LATER)).json()["id"]

        assert (await other.get(f"/requests/{id}")).json() == {"id": id, "state": "pending"}
        there.world.gate.set()

        assert (await settled(other, id)).json() == {"total": 1.5}


@pytest.mark.parametrize("id", ["0" * 32, "x", "%00", "%F0%9F%8D%B5", "a'b\"c"])
async def test_an_id_that_was_never_given_is_unknown(id: str):
    async with opened() as door:
        for response in (await door.get(f"/requests/{id}"), await door.delete(f"/requests/{id}")):
            assert (response.status_code, told(response)["code"]) == (404, "request.unknown")
            assert "a day" in told(response)["hint"]


async def test_an_outcome_is_told_when_its_service_is_not_known_any_more():
    async with opened() as door:
        await door.post("/orders", json=TEA)
        await door.host.registry.forget("shop")
        await door.host.directory.refresh()

        response = await door.get(f"/requests/{door.world.ids[0]}")

        assert (response.status_code, response.json()) == (200, {"total": 1.5})


async def test_what_a_restore_has_made_unknown_says_so():
    async with opened() as door:
        await door.post("/orders", json=TEA)
        journal = journal_of(door)
        call = await journal.call(door.world.ids[0])
        assert call is not None
        await journal.store.commit(
            lambda books: books.set_calls([(CallState.UNKNOWN, b"", 0, False, call.place)]), name="test"
        )

        response = await door.get(f"/requests/{call.id}")

        assert (response.status_code, told(response)["code"]) == (504, "outcome.unknown")


async def test_a_request_that_waits_for_an_operator_says_so():
    async with opened() as door:
        slow = Service("slow")

        @slow.handler(http="POST /park", attempts=1, exhausted="park")
        async def park(order: Order) -> None:
            raise KeyError(order.sku)

        await door.host.serve(slow)
        assert park.name == "slow.park"
        id = (await door.post("/park", json=TEA, headers=LATER)).json()["id"]

        async with asyncio.timeout(10):
            while (await door.get(f"/requests/{id}")).json()["state"] != "parked":
                await asyncio.sleep(0.01)


async def test_requests_of_one_ordering_key_are_handled_one_after_the_other():
    async with opened() as door:
        bank, running, most = Service("bank"), 0, 0

        @bank.handler(http="POST /move", key="account")
        async def move(moved: Moved) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return moved.amount

        await door.host.serve(bank)
        assert move.name == "bank.move"

        answers = await asyncio.gather(*(door.post("/move", json={"account": "a", "amount": n}) for n in range(5)))

        assert [answer.json() for answer in answers] == [0, 1, 2, 3, 4]
        assert most == 1


class Moved(Struct):
    account: str
    amount: int


# --- who waits -------------------------------------------------------------------------------------------


async def test_nobody_is_told_202_before_the_request_is_stored(monkeypatch: pytest.MonkeyPatch):
    async with opened(gateway={"wait": 0.01}) as door:
        door.world.gate.clear()
        free = hold_the_store(door.host, monkeypatch)
        patient = asyncio.create_task(door.post("/orders", json=TEA), name="waits 10 ms")
        hasty = asyncio.create_task(door.post("/orders", json=TEA, headers=LATER), name="does not wait")

        done, _ = await asyncio.wait({patient, hasty}, timeout=0.1)
        assert done == set()
        free.set_result(None)

        assert [response.status_code for response in await asyncio.gather(patient, hasty)] == [202, 202]
        door.world.gate.set()


@pytest.mark.parametrize("wait", [0.01, 3600])
async def test_what_could_not_be_stored_is_503_however_late_that_is_known(wait: float, monkeypatch: pytest.MonkeyPatch):
    async with opened(gateway={"wait": wait}) as door:
        free = hold_the_store(door.host, monkeypatch)
        asking = [
            asyncio.create_task(door.post("/orders", json=TEA, headers=headers), name="client")
            for headers in ({}, LATER, {"idempotency-key": "k"})
        ]
        await asyncio.wait(asking, timeout=0.05)

        free.set_exception(UnavailableError("the disk is gone"))

        for response in await asyncio.gather(*asking):
            assert (response.status_code, told(response)["code"]) == (503, "transport.unavailable")
            assert "retry-after" in response.headers
            assert "id" not in told(response), "there is no request that could be asked for"
        monkeypatch.undo()
        again = await door.post("/orders", json={"sku": "other"}, headers={"idempotency-key": "k"})
        assert again.status_code in {200, 202}, "a key is used up by what was stored, not before"
        await until(lambda: door.world.seen == [Order("other")])


async def test_an_http_request_that_is_canceled_is_not_waited_for_and_its_outcome_is_kept():
    async with opened() as door:
        door.world.gate.clear()
        asking = asyncio.create_task(door.post("/orders", json=TEA), name="client")
        await until(lambda: bool(door.world.ids))

        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        assert not journal_of(door).outbox.is_waited_for(door.world.ids[0])
        door.world.gate.set()
        assert (await settled(door, door.world.ids[0])).json() == {"total": 1.5}


async def test_a_client_that_goes_away_as_its_outcome_comes_loses_it_not(monkeypatch: pytest.MonkeyPatch):
    async with opened() as door:
        calls, key = journal_of(door).outbox, {"idempotency-key": "k"}
        fill = calls.fill

        def filled_as_the_client_goes(id: str, outcome: bytes, epoch: int, **how: Any) -> None:
            fill(id, outcome, epoch, **how)
            asking.cancel()

        monkeypatch.setattr(calls, "fill", filled_as_the_client_goes)
        asking = asyncio.create_task(door.post("/orders", json=TEA, headers=key), name="client")
        await asyncio.gather(asking, return_exceptions=True)
        monkeypatch.undo()

        again = await door.post("/orders", json=TEA, headers=key)
        assert asking.cancelled()
        assert (again.status_code, again.json()) == (200, {"total": 1.5})
        assert len(door.world.seen) == 1


async def test_who_waits_when_the_gateway_stops_is_told_where_to_ask_and_finds_the_outcome_at_the_next_one():
    async with street() as there:
        there.world.gate.clear()
        async with there.gateway(gateway={"wait": 3600}) as before:
            asking = asyncio.create_task(before.post("/orders", json=TEA), name="client")
            await until(lambda: bool(there.world.ids))

            before.gateway.release()

            response = await asking
            late = await before.post("/orders", json=TEA)
            assert (response.status_code, late.status_code) == (202, 202)
            assert response.headers["location"] == f"/requests/{there.world.ids[0]}"
        there.world.gate.set()
        async with there.gateway() as after:
            assert (await settled(after, there.world.ids[0])).json() == {"total": 1.5}


async def test_who_is_not_stored_yet_when_the_gateway_stops_is_told_202_only_then(monkeypatch: pytest.MonkeyPatch):
    async with opened(gateway={"wait": 3600}) as door:
        door.world.gate.clear()
        free = hold_the_store(door.host, monkeypatch)
        asking = asyncio.create_task(door.post("/orders", json=TEA), name="client")
        await asyncio.wait({asking}, timeout=0.02)

        door.gateway.release()
        await asyncio.wait({asking}, timeout=0.02)
        assert not asking.done()
        free.set_result(None)

        assert (await asking).status_code == 202
        door.world.gate.set()


# --- nobody there, no room -------------------------------------------------------------------------------


async def test_an_engine_that_is_away_does_not_matter_to_what_is_stored(monkeypatch: pytest.MonkeyPatch):
    async with opened(serving=False, gateway={"wait": 0.01}) as door:

        async def send(_messages: object) -> Any:
            raise UnavailableError("the file is gone")

        monkeypatch.setattr(door.host.transport, "send", send)
        response = await door.post("/orders", json=TEA)
        monkeypatch.undo()

        assert response.status_code == 202
        await door.host.serve(door.world.shop)
        assert (await settled(door, response.json()["id"])).json() == {"total": 1.5}


async def test_a_full_outbox_is_refused_at_once():
    async with opened(serving=False, gateway={"wait": 0.01}) as door:
        journal_of(door).here.capacity = 1
        assert (await door.post("/orders", json=TEA)).status_code == 202

        response = await door.post("/orders", json=TEA, headers={"idempotency-key": "k"})

        assert (response.status_code, told(response)["code"]) == (503, "queue.full")
        assert "retry-after" in response.headers
        journal_of(door).here.capacity = 2
        again = await door.post("/orders", json={"sku": "other"}, headers={"idempotency-key": "k"})
        assert again.status_code == 202, "a key is used up by what was stored, not before"


async def test_data_that_no_message_takes_is_refused(monkeypatch: pytest.MonkeyPatch):
    async with opened(gateway={"body_limit": 16 << 20}) as door:
        response = await door.post("/orders", json={"sku": "x" * (8 << 20)})

        assert (response.status_code, told(response)["code"]) == (413, "message.too_large")


# --- idempotency keys ------------------------------------------------------------------------------------


async def test_a_key_is_known_to_the_gateway_that_is_opened_again():
    async with street() as there:
        key = {"idempotency-key": "k"}
        async with there.gateway() as before:
            first = await before.post("/orders", json={"sku": "no money"}, headers=key)

        async with there.gateway() as after:
            second = await after.post("/orders", json={"sku": "no money"}, headers=key)
            hasty = await after.post("/orders", json={"sku": "no money"}, headers={**key, **LATER})
            other = await after.post("/orders", json=TEA, headers=key)

        assert [told(each) for each in (second, hasty)] == [told(first)] * 2
        assert (other.status_code, told(other)["code"]) == (422, "idempotency.conflict")
        assert len(there.world.seen) == 1


async def test_of_one_key_at_two_gateways_at_the_same_time_one_call_is_made():
    async with street() as there:
        doors = [await there.door(), await there.door()]
        there.world.gate.clear()
        for key in map(str, range(10)):
            there.world.ids.clear()

            asked = [
                asyncio.create_task(door.post("/orders", json=TEA, headers={"idempotency-key": key}), name="client")
                for door in doors * 3
            ]
            running = [told(response) for response in await _first(asked, 5)]
            await until(lambda: bool(there.world.ids))
            assert {(each["code"], each["id"]) for each in running} == {("idempotency.running", there.world.ids[0])}
            there.world.gate.set()
            [answered] = [response for response in await asyncio.gather(*asked) if response.status_code != 409]
            assert answered.json() == {"total": 1.5}
            there.world.gate.clear()
            assert len(there.world.ids) == 1

            for door in doors:
                again = await door.post("/orders", json=TEA, headers={"idempotency-key": key})
                assert (again.status_code, again.json()) == (200, {"total": 1.5})
        assert len(there.world.seen) == 10


async def _first(asked: list[asyncio.Task[Response]], count: int) -> list[Response]:
    while len(done := [each for each in asked if each.done()]) < count:
        await asyncio.wait([each for each in asked if not each.done()], return_when=asyncio.FIRST_COMPLETED)
    return [each.result() for each in done]


async def test_a_key_whose_outcome_is_not_kept_any_more_is_not_asked_again():
    async with opened() as door:
        key = {"idempotency-key": "k"}
        await door.post("/orders", json=TEA, headers=key)
        journal = journal_of(door)
        [lane] = journal.outbox.lanes
        await journal.store.commit(
            lambda books: books.forget_calls(lane=lane, below=1, before=float("inf"), keep_bytes=0), name="test"
        )

        response = await door.post("/orders", json=TEA, headers=key)

        assert (response.status_code, told(response)["code"]) == (504, "outcome.unknown")
        assert told(response)["id"] == door.world.ids[0]
        assert len(door.world.seen) == 1


async def test_what_was_cut_off_while_it_was_stored_is_asked_once(monkeypatch: pytest.MonkeyPatch):
    async with opened() as door:
        key = {"idempotency-key": "k"}
        free = hold_the_store(door.host, monkeypatch)
        asking = asyncio.create_task(door.post("/orders", json=TEA, headers=key), name="client")
        await asyncio.wait({asking}, timeout=0.02)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        monkeypatch.undo()
        free.set_result(None)
        await until(lambda: bool(door.world.ids))

        again = await door.post("/orders", json=TEA, headers=key)

        assert again.status_code in {200, 409}
        outcome = await settled(door, door.world.ids[0])
        assert outcome.json() == {"total": 1.5}
        assert len(door.world.seen) == 1


# --- canceled --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1], ids=["at the gateway that was asked", "at another one"])
async def test_a_request_that_was_received_and_not_begun_can_be_canceled_at_each_gateway(
    at: int, monkeypatch: pytest.MonkeyPatch
):
    def never(_tries: int, **_: object) -> float:
        return 3600.0

    monkeypatch.setattr(outbox, "resend_after", never)  # what is not told at once would be told in an hour
    async with street() as there:
        one_by_one, begun, gate = Service("desk", concurrency=1), list[str](), asyncio.Event()

        @one_by_one.handler(http="POST /serve")
        async def serve(order: Order, ctx: Context) -> str:
            begun.append(ctx.id)
            await gate.wait()
            return order.sku

        await there.host.serve(one_by_one)
        assert serve.name == "desk.serve"
        doors = [await there.door(), await there.door()]
        first = (await doors[0].post("/serve", json=TEA, headers=LATER)).json()["id"]
        await until(lambda: begun == [first])
        second = (await doors[0].post("/serve", json=TEA, headers=LATER)).json()["id"]

        response = await doors[at].delete(f"/requests/{second}")

        assert (response.status_code, response.json()) == (202, {"id": second, "state": "canceling"})
        assert response.headers["location"] == f"/requests/{second}"
        assert int(response.headers["retry-after"]) >= 1
        outcome = await settled(doors[at], second)
        assert (outcome.status_code, told(outcome)["code"], told(outcome)["id"]) == (409, "call.canceled", second)
        gate.set()
        assert (await settled(doors[at], first)).json() == "tea"
        assert begun == [first]


async def test_a_request_that_was_not_sent_yet_is_canceled_at_once_and_says_so():
    async with opened() as door:
        bank, begun, gate = Service("bank"), list[int](), asyncio.Event()

        @bank.handler(http="POST /move", key="account")
        async def move(moved: Moved) -> int:
            begun.append(moved.amount)
            await gate.wait()
            return moved.amount

        await door.host.serve(bank)
        assert move.name == "bank.move"
        ids = [
            (await door.post("/move", json={"account": "a", "amount": amount}, headers=LATER)).json()["id"]
            for amount in (1, 2, 3)
        ]
        await until(lambda: begun == [1])
        waits = asyncio.create_task(
            door.post("/move", json={"account": "a", "amount": 4}, headers={"idempotency-key": "k"}), name="client"
        )
        journal = journal_of(door)
        while (key := await journal.store.read(lambda books: books.key("POST /move", "k"))) is None:
            await asyncio.sleep(0)

        for id in (ids[1], key.reference):
            assert (await door.delete(f"/requests/{id}")).status_code == 202

        told_now = await door.get(f"/requests/{ids[1]}")
        assert (told_now.status_code, told(told_now)["code"]) == (409, "call.canceled")
        assert told(await waits)["code"] == "call.canceled"
        gate.set()
        assert (await settled(door, ids[2])).json() == 3
        assert begun == [1, 3]


async def test_a_request_that_runs_ends_as_it_ends_and_one_that_has_ended_stays_as_it_is():
    async with opened() as door:
        door.world.gate.clear()
        id = (await door.post("/orders", json=TEA, headers=LATER)).json()["id"]
        await until(lambda: door.world.ids == [id])

        assert (await door.delete(f"/requests/{id}")).status_code == 202
        assert (await door.delete(f"/requests/{id}")).status_code == 202
        assert (await door.get(f"/requests/{id}")).json()["state"] == "pending"
        door.world.gate.set()

        assert (await settled(door, id)).json() == {"total": 1.5}
        assert (await door.delete(f"/requests/{id}")).status_code == 202
        assert (await door.get(f"/requests/{id}")).json() == {"total": 1.5}
