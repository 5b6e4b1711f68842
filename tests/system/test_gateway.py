"""The gateway over a real host: what an HTTP client is told, whether what it asks is journaled or queued."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from posthouse import Service
from tests.system.gateway_world import Mode, Order, opened, settled, told, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["journaled", "queued"])
def mode(request: pytest.FixtureRequest) -> Mode:
    return request.param


# --- the thin path ---------------------------------------------------------------------------------------


async def test_a_post_is_answered_by_the_reply(mode: Mode):
    async with opened(mode=mode) as door:
        response = await door.post("/orders", json={"sku": "tea", "qty": 2})

        assert (response.status_code, response.json()) == (200, {"total": 3.0})
        assert response.headers["content-type"] == "application/json"
        assert door.world.seen == [Order("tea", 2)]


async def test_path_and_query_become_the_data_of_a_get():
    async with opened() as door:
        response = await door.get("/search/black%20tea?tags=a&tags=b&most=3")

        assert response.json() == {"text": "black tea", "tags": ["a", "b"], "most": 3}


async def test_path_and_body_become_the_data_of_a_put_with_the_status_of_the_contract(mode: Mode):
    async with opened(mode=mode) as door:
        response = await door.put("/orders/tea", json={"qty": 3})

        assert (response.status_code, response.json()) == (201, {"sku": "tea", "qty": 3})


async def test_no_data_is_204_without_a_body(mode: Mode):
    async with opened(mode=mode) as door:
        response = await door.delete("/orders/tea?qty=2")

        assert (response.status_code, response.content) == (204, b"")
        assert door.world.seen == [Order("tea", 2)]


async def test_head_is_get_without_the_body():
    async with opened() as door:
        response = await door.head("/search/tea")

        assert (response.status_code, response.content) == (200, b"")
        assert int(response.headers["content-length"]) == len('{"text":"tea","tags":[],"most":10}')


async def test_a_reject_is_the_answer_that_its_class_asks_for(mode: Mode):
    async with opened(mode=mode) as door:
        response = await door.post("/orders", json={"sku": "no money"})

        problem = told(response)
        assert (response.status_code, problem["code"], problem["bank"]) == (402, "card.refused", "first")
        assert problem["detail"] == "the bank says no"
        assert problem["id"] == door.world.ids[0]


@pytest.mark.parametrize(("env", "shows"), [("test", True), ("prod", False)])
async def test_a_failed_handler_is_500_and_its_cause_is_for_developers(
    mode: Mode, env: str, shows: bool, tmp_path: Path
):
    async with opened(mode=mode, env=env, transport=f"sqlite:{tmp_path}") as door:
        response = await door.post("/orders", json={"sku": "broken"})

        problem = told(response)
        assert (response.status_code, problem["code"]) == (500, "handler.failed")
        assert ("the till is stuck" in response.text) is shows
        assert problem["id"] == door.world.ids[0]
        assert "Traceback" not in response.text


# --- answered later --------------------------------------------------------------------------------------


async def test_a_client_that_will_not_wait_is_told_where_to_ask_and_gets_the_same_answer_there(mode: Mode):
    async with opened(mode=mode) as door:
        door.world.gate.clear()
        response = await door.post("/orders", json={"sku": "tea"}, headers={"prefer": "respond-async"})

        assert response.status_code == 202
        assert response.headers["preference-applied"] == "respond-async"
        id = response.json()["id"]
        assert response.json() == {"id": id, "state": "pending"}
        assert response.headers["location"] == f"/requests/{id}"
        assert len(id) == 32

        pending = await door.get(response.headers["location"])
        assert (pending.status_code, pending.json()) == (202, {"id": id, "state": "pending"})
        assert int(pending.headers["retry-after"]) >= 1

        door.world.gate.set()
        outcome = await settled(door, id)
        assert (outcome.status_code, outcome.json()) == (200, {"total": 1.5})
        assert door.world.ids == [id]


async def test_a_slow_handler_is_answered_202_and_the_request_lives_on(mode: Mode):
    async with opened(mode=mode, gateway={"wait": 0.01}) as door:
        door.world.gate.clear()
        response = await door.post("/orders", json={"sku": "no money"})

        assert response.status_code == 202
        assert "preference-applied" not in response.headers
        door.world.gate.set()
        outcome = await settled(door, response.json()["id"])
        assert (outcome.status_code, told(outcome)["code"]) == (402, "card.refused")


async def test_a_client_may_wait_less_than_the_route_would(mode: Mode):
    async with opened(mode=mode, gateway={"wait": 3600}) as door:
        door.world.gate.clear()

        response = await door.post("/orders", json={"sku": "tea"}, headers={"prefer": "wait=0"})

        assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=0")
        door.world.gate.set()


async def test_an_http_request_that_is_canceled_leaves_its_request_running(mode: Mode):
    async with opened(mode=mode) as door:
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


# --- nobody there ----------------------------------------------------------------------------------------


async def test_without_an_instance_a_request_is_accepted_and_answered_when_one_comes(mode: Mode):
    async with opened(mode=mode, serving=False, gateway={"wait": 0.01}) as door:
        response = await door.post("/orders", json={"sku": "tea"})
        assert response.status_code == 202

        await door.host.serve(door.world.shop)

        assert (await settled(door, response.json()["id"])).json() == {"total": 1.5}


async def test_without_an_instance_a_volatile_request_is_refused_at_once():
    async with opened(serving=False, gateway={"wait": 3600}) as door:
        response = await door.get("/search/tea")

        assert (response.status_code, told(response)["code"]) == (503, "service.not_served")
        assert int(response.headers["retry-after"]) >= 1


async def test_a_route_appears_when_its_service_is_first_announced(mode: Mode):
    async with opened(mode=mode) as door:
        assert (await door.post("/late", json={})).status_code == 404
        late = Service("late")

        @late.handler(http="POST /late", mode=mode)
        async def come(order: Order) -> Order:
            return order

        await door.host.serve(late)
        assert come.name == "late.come"

        assert (await door.post("/late", json={"sku": "tea"})).json() == {"sku": "tea", "qty": 1}


# --- idempotency keys ------------------------------------------------------------------------------------


async def test_the_same_key_and_body_get_the_same_answer_and_the_handler_runs_once(mode: Mode):
    async with opened(mode=mode) as door:
        key = {"idempotency-key": "k1"}

        first = await door.post("/orders", json={"sku": "tea"}, headers=key)
        second = await door.post("/orders", json={"sku": "tea"}, headers=key)
        third = await door.post("/orders", json={"sku": "tea"}, headers={"idempotency-key": "k2"})

        assert [response.json() for response in (first, second, third)] == [{"total": 1.5}] * 3
        assert len(door.world.seen) == 2


async def test_the_same_key_with_another_body_is_a_conflict(mode: Mode):
    async with opened(mode=mode) as door:
        key = {"idempotency-key": "k1"}
        await door.post("/orders", json={"sku": "tea"}, headers=key)

        response = await door.post("/orders", json={"sku": "coffee"}, headers=key)

        assert (response.status_code, told(response)["code"]) == (422, "idempotency.conflict")
        assert door.world.seen == [Order("tea")]


async def test_a_key_whose_request_still_runs_is_409_and_later_gets_its_outcome(mode: Mode):
    async with opened(mode=mode) as door:
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


async def test_a_key_is_of_the_path_too_where_fields_of_the_data_stand(mode: Mode):
    async with opened(mode=mode) as door:
        key = {"idempotency-key": "k1"}
        await door.put("/orders/tea", json={"qty": 2}, headers=key)

        response = await door.put("/orders/coffee", json={"qty": 2}, headers=key)

        assert (response.status_code, told(response)["code"]) == (422, "idempotency.conflict")
        assert door.world.seen == [Order("tea", 2)]
