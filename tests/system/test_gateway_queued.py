"""Routes of queued operations: what the gateway knows of their requests is in its memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse.errors import OutcomeUnknownError, QueueFullError, UnavailableError
from posthouse.message.message import Message
from tests.system.gateway_world import opened, settled, told, until

pytestmark = pytest.mark.anyio


async def test_the_gateway_knows_only_the_requests_of_its_own_life():
    async with opened(mode="queued") as door:
        await door.post("/orders", json={"sku": "tea"})
        for id in ("0" * 32, door.world.ids[0], "x", "%00"):
            response = await door.get(f"/requests/{id}")
            assert response.status_code == 404
        problem = told(await door.get("/requests/" + "0" * 32))
        assert problem["code"] == "request.unknown"
        assert "memory" in problem["hint"]


@pytest.mark.parametrize("keep", [2, 3])
async def test_outcomes_are_kept_up_to_a_number(keep: int):
    async with opened(mode="queued", gateway={"keep": keep}) as door:
        later = {"prefer": "respond-async"}
        ids = [(await door.post("/orders", json={"sku": "tea"}, headers=later)).json()["id"] for _ in range(3)]

        known = [(await door.get(f"/requests/{id}")).status_code != 404 for id in ids]

        assert known == [keep == 3, True, True]


async def test_a_full_queue_is_refused_at_once():
    async with opened(mode="queued", services={"shop": {"capacity": 1}}, serving=False, gateway={"wait": 0.01}) as door:
        assert (await door.post("/orders", json={"sku": "tea"})).status_code == 202

        response = await door.post("/orders", json={"sku": "tea"}, headers={"idempotency-key": "k"})

        assert (response.status_code, told(response)["code"]) == (503, QueueFullError.code)
        assert "retry-after" in response.headers
        again = await door.post("/orders", json={"sku": "other"}, headers={"idempotency-key": "k"})
        assert told(again)["code"] == QueueFullError.code, "a key is used up by what was stored, not before"


async def test_what_nobody_knows_the_end_of_is_not_asked_again_by_the_same_key(monkeypatch: pytest.MonkeyPatch):
    async with opened(mode="queued") as door:
        key = {"idempotency-key": "k1"}
        ask = door.host.caller.ask

        async def ask_and_die(*args: Any, **named: Any) -> Any:
            ticket = await ask(*args, **named)
            door.host.caller.forget(ticket)
            ticket.reply.set_exception(OutcomeUnknownError("the instance went away"))
            return ticket

        monkeypatch.setattr(door.host.caller, "ask", ask_and_die)
        first = await door.post("/orders", json={"sku": "tea"}, headers=key)
        monkeypatch.undo()
        again = await door.post("/orders", json={"sku": "tea"}, headers=key)

        assert [(each.status_code, told(each)["code"]) for each in (first, again)] == [(504, "outcome.unknown")] * 2
        assert len(door.world.ids) <= 1


async def test_what_was_cut_off_while_it_was_stored_is_not_asked_again_by_the_same_key(monkeypatch: pytest.MonkeyPatch):
    async with opened(mode="queued") as door:
        key = {"idempotency-key": "k1"}
        storing = asyncio.Event()

        async def send(_messages: object) -> None:
            storing.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(door.host.transport, "send", send)
        asking = asyncio.create_task(door.post("/orders", json={"sku": "tea"}, headers=key), name="client")
        await storing.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        monkeypatch.undo()

        again = await door.post("/orders", json={"sku": "tea"}, headers=key)

        assert (again.status_code, told(again)["code"]) == (504, "outcome.unknown")


async def test_a_queued_request_cannot_be_canceled():
    async with opened(mode="queued") as door:
        door.world.gate.clear()
        accepted = await door.post("/orders", json={"sku": "tea"}, headers={"prefer": "respond-async"})

        response = await door.delete(accepted.headers["location"])

        assert (response.status_code, told(response)["code"]) == (405, "method.not_allowed")
        assert response.headers["allow"] == "GET, HEAD"
        door.world.gate.set()
        assert (await settled(door, accepted.json()["id"])).json() == {"total": 1.5}


async def test_who_waits_when_the_gateway_stops_is_told_that_the_outcome_is_not_known():
    async with opened(mode="queued", gateway={"wait": 3600}) as door:
        door.world.gate.clear()
        key = {"idempotency-key": "k"}
        asking = asyncio.create_task(door.post("/orders", json={"sku": "tea"}, headers=key), name="client")
        await until(lambda: bool(door.world.ids))

        door.gateway.release()

        response = await asking
        assert (response.status_code, told(response)["code"]) == (504, "outcome.unknown")
        assert told(response)["id"] == door.world.ids[0]
        door.world.gate.set()


async def test_a_client_that_goes_away_as_its_reply_comes_loses_it_not(monkeypatch: pytest.MonkeyPatch):
    async with opened(mode="queued") as door:
        key = {"idempotency-key": "k"}
        receive = door.host.caller.receive

        def received_as_the_client_goes(reply: Message) -> None:
            receive(reply)
            asking.cancel()

        monkeypatch.setattr(door.host.caller, "receive", received_as_the_client_goes)
        asking = asyncio.create_task(door.post("/orders", json={"sku": "tea"}, headers=key))
        await asyncio.gather(asking, return_exceptions=True)
        monkeypatch.undo()
        await asyncio.sleep(0)
        again = await door.post("/orders", json={"sku": "tea"}, headers=key)

        assert asking.cancelled()
        assert (again.status_code, again.json()) == (200, {"total": 1.5})
        assert len(door.world.seen) == 1


async def test_an_engine_that_is_away_is_503(monkeypatch: pytest.MonkeyPatch):
    async with opened(mode="queued") as door:

        def send(_messages: object) -> Any:
            raise UnavailableError("the file is gone")

        monkeypatch.setattr(door.host.transport, "send", send)
        response = await door.post("/orders", json={"sku": "tea"})

        assert (response.status_code, told(response)["code"]) == (503, "transport.unavailable")
