"""The gateway over a real host: what an HTTP client is told when all goes well, and when a service does not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from posthouse import Service
from posthouse.errors import OutcomeUnknownError, QueueFullError
from tests.system.gateway_world import Order, opened, settled, told, until

pytestmark = pytest.mark.anyio

# --- the thin path ---------------------------------------------------------------------------------------


async def test_a_post_is_answered_by_the_reply():
    async with opened() as door:
        response = await door.post("/orders", json={"sku": "tea", "qty": 2})

        assert (response.status_code, response.json()) == (200, {"total": 3.0})
        assert response.headers["content-type"] == "application/json"
        assert door.world.seen == [Order("tea", 2)]


async def test_path_and_query_become_the_data_of_a_get():
    async with opened() as door:
        response = await door.get("/search/black%20tea?tags=a&tags=b&most=3")

        assert response.json() == {"text": "black tea", "tags": ["a", "b"], "most": 3}


async def test_path_and_body_become_the_data_of_a_put_with_the_status_of_the_contract():
    async with opened() as door:
        response = await door.put("/orders/tea", json={"qty": 3})

        assert (response.status_code, response.json()) == (201, {"sku": "tea", "qty": 3})


async def test_no_data_is_204_without_a_body():
    async with opened() as door:
        response = await door.delete("/orders/tea?qty=2")

        assert (response.status_code, response.content) == (204, b"")
        assert door.world.seen == [Order("tea", 2)]


async def test_head_is_get_without_the_body():
    async with opened() as door:
        response = await door.head("/search/tea")

        assert (response.status_code, response.content) == (200, b"")
        assert int(response.headers["content-length"]) == len('{"text":"tea","tags":[],"most":10}')


async def test_a_reject_is_the_answer_that_its_class_asks_for():
    async with opened() as door:
        response = await door.post("/orders", json={"sku": "no money"})

        problem = told(response)
        assert (response.status_code, problem["code"], problem["bank"]) == (402, "card.refused", "first")
        assert problem["detail"] == "the bank says no"
        assert problem["id"] == door.world.ids[0]


@pytest.mark.parametrize(("env", "shows"), [("test", True), ("prod", False)])
async def test_a_failed_handler_is_500_and_its_cause_is_for_developers(env: str, shows: bool):
    async with opened() as door:
        answering = door.gateway._answering
        assert answering is not None
        answering._shows_causes = env != "prod"

        response = await door.post("/orders", json={"sku": "broken"})

        problem = told(response)
        assert (response.status_code, problem["code"]) == (500, "handler.failed")
        assert ("the till is stuck" in response.text) is shows
        assert problem["id"] == door.world.ids[0]
        assert "Traceback" not in response.text


# --- answered later --------------------------------------------------------------------------------------


async def test_a_client_that_will_not_wait_is_told_where_to_ask_and_gets_the_same_answer_there():
    async with opened() as door:
        door.world.gate.clear()
        response = await door.post("/orders", json={"sku": "tea"}, headers={"prefer": "respond-async"})

        assert response.status_code == 202
        assert response.headers["preference-applied"] == "respond-async"
        id = response.json()["id"]
        assert response.json() == {"id": id, "state": "pending"}
        assert response.headers["location"] == f"/requests/{id}"
        assert len(id) == 32

        pending = await door.get(response.headers["location"])
        assert (pending.status_code, pending.json()) == (200, {"id": id, "state": "pending"})
        assert int(pending.headers["retry-after"]) >= 1

        door.world.gate.set()
        outcome = await settled(door, id)
        assert (outcome.status_code, outcome.json()) == (200, {"total": 1.5})
        assert door.world.ids == [id]


async def test_a_slow_handler_is_answered_202_and_the_request_lives_on():
    async with opened(gateway={"wait": 0.01}) as door:
        door.world.gate.clear()
        response = await door.post("/orders", json={"sku": "no money"})

        assert response.status_code == 202
        assert "preference-applied" not in response.headers
        door.world.gate.set()
        outcome = await settled(door, response.json()["id"])
        assert (outcome.status_code, told(outcome)["code"]) == (402, "card.refused")


async def test_a_client_may_wait_less_than_the_route_would():
    async with opened(gateway={"wait": 3600}) as door:
        door.world.gate.clear()

        response = await door.post("/orders", json={"sku": "tea"}, headers={"prefer": "wait=0"})

        assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=0")
        door.world.gate.set()


async def test_an_http_request_that_is_canceled_leaves_its_request_running():
    async with opened() as door:
        door.world.gate.clear()
        asking = asyncio.create_task(
            door.post("/orders", json={"sku": "tea"}, headers={"idempotency-key": "k"}), name="client"
        )
        await until(lambda: bool(door.world.ids))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        door.world.gate.set()

        outcome = await settled(door, door.world.ids[0])
        assert outcome.json() == {"total": 1.5}
        assert door.world.seen == [Order("tea")]


async def test_the_gateway_knows_only_the_requests_of_its_own_life():
    async with opened() as door:
        await door.post("/orders", json={"sku": "tea"})
        for id in ("0" * 32, door.world.ids[0], "x", "%00"):
            response = await door.get(f"/requests/{id}")
            assert response.status_code == 404
        problem = told(await door.get("/requests/" + "0" * 32))
        assert problem["code"] == "request.unknown"
        assert "memory" in problem["hint"]


@pytest.mark.parametrize("keep", [2, 3])
async def test_outcomes_are_kept_up_to_a_number(keep: int):
    async with opened(gateway={"keep": keep}) as door:
        later = {"prefer": "respond-async"}
        ids = [(await door.post("/orders", json={"sku": "tea"}, headers=later)).json()["id"] for _ in range(3)]

        known = [(await door.get(f"/requests/{id}")).status_code == 200 for id in ids]

        assert known == [keep == 3, True, True]


# --- nobody there ----------------------------------------------------------------------------------------


async def test_without_an_instance_a_queued_request_is_accepted_and_answered_when_one_comes():
    async with opened(serving=False, gateway={"wait": 0.01}) as door:
        response = await door.post("/orders", json={"sku": "tea"})
        assert response.status_code == 202

        await door.host.serve(door.world.shop)

        assert (await settled(door, response.json()["id"])).json() == {"total": 1.5}


async def test_without_an_instance_a_volatile_request_is_refused_at_once():
    async with opened(serving=False, gateway={"wait": 3600}) as door:
        response = await door.get("/search/tea")

        assert (response.status_code, told(response)["code"]) == (503, "service.not_served")
        assert int(response.headers["retry-after"]) >= 1


async def test_a_full_queue_is_refused_at_once(monkeypatch: pytest.MonkeyPatch):
    async with opened(services={"shop": {"capacity": 1}}, serving=False, gateway={"wait": 0.01}) as door:
        assert (await door.post("/orders", json={"sku": "tea"})).status_code == 202

        response = await door.post("/orders", json={"sku": "tea"}, headers={"idempotency-key": "k"})

        assert (response.status_code, told(response)["code"]) == (503, QueueFullError.code)
        assert "retry-after" in response.headers
        again = await door.post("/orders", json={"sku": "other"}, headers={"idempotency-key": "k"})
        assert told(again)["code"] == QueueFullError.code, "a key is used up by what was stored, not before"


async def test_a_route_appears_when_its_service_is_first_announced():
    async with opened() as door:
        assert (await door.post("/late", json={})).status_code == 404
        late = Service("late")

        @late.handler(http="POST /late", mode="queued")
        async def come(order: Order) -> Order:
            return order

        await door.host.serve(late)
        assert come.name == "late.come"

        assert (await door.post("/late", json={"sku": "tea"})).json() == {"sku": "tea", "qty": 1}


# --- idempotency keys ------------------------------------------------------------------------------------


async def test_the_same_key_and_body_get_the_same_answer_and_the_handler_runs_once():
    async with opened() as door:
        key = {"idempotency-key": "k1"}

        first = await door.post("/orders", json={"sku": "tea"}, headers=key)
        second = await door.post("/orders", json={"sku": "tea"}, headers=key)
        third = await door.post("/orders", json={"sku": "tea"}, headers={"idempotency-key": "k2"})

        assert [response.json() for response in (first, second, third)] == [{"total": 1.5}] * 3
        assert len(door.world.seen) == 2


async def test_the_same_key_with_another_body_is_a_conflict():
    async with opened() as door:
        key = {"idempotency-key": "k1"}
        await door.post("/orders", json={"sku": "tea"}, headers=key)

        response = await door.post("/orders", json={"sku": "coffee"}, headers=key)

        assert (response.status_code, told(response)["code"]) == (422, "idempotency.conflict")
        assert door.world.seen == [Order("tea")]


async def test_a_key_whose_request_still_runs_is_409_and_later_gets_its_outcome():
    async with opened() as door:
        door.world.gate.clear()
        key = {"idempotency-key": "k1"}
        accepted = await door.post("/orders", json={"sku": "no money"}, headers={**key, "prefer": "respond-async"})

        running = await door.post("/orders", json={"sku": "no money"}, headers=key)
        assert (running.status_code, told(running)["code"]) == (409, "idempotency.running")
        assert told(running)["id"] == accepted.json()["id"]

        door.world.gate.set()
        await settled(door, accepted.json()["id"])
        again = await door.post("/orders", json={"sku": "no money"}, headers=key)
        assert (again.status_code, told(again)["code"]) == (402, "card.refused")
        assert len(door.world.seen) == 1


async def test_a_key_is_of_the_path_too_where_fields_of_the_data_stand():
    async with opened() as door:
        key = {"idempotency-key": "k1"}
        await door.put("/orders/tea", json={"qty": 2}, headers=key)

        response = await door.put("/orders/coffee", json={"qty": 2}, headers=key)

        assert (response.status_code, told(response)["code"]) == (422, "idempotency.conflict")
        assert door.world.seen == [Order("tea", 2)]


async def test_what_nobody_knows_the_end_of_is_not_asked_again_by_the_same_key(monkeypatch: pytest.MonkeyPatch):
    async with opened() as door:
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
    async with opened() as door:
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


async def test_in_prod_the_cause_of_a_failed_handler_stays_inside(tmp_path: Path):
    for env, shown in (("test", True), ("prod", False)):
        async with opened(env=env, transport=f"sqlite:{tmp_path / env}") as door:
            response = await door.post("/orders", json={"sku": "broken"})

            assert told(response)["code"] == "handler.failed"
            assert ("the till is stuck" in response.text) is shown
