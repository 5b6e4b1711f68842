"""The gateway's own pages, and its life in an app."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from httpx2 import ASGITransport
from starlette.applications import Starlette

from posthouse import PosthouseError, Service
from posthouse.errors import QueueFullError, UnavailableError
from posthouse.gateway import Gateway, pages, problem
from posthouse.runtime.host import Host
from tests.system.gateway_world import Door, World, opened, settings_of, settled, told

pytestmark = pytest.mark.anyio

# --- the gateway's own pages -----------------------------------------------------------------------------


async def test_it_says_that_it_lives_and_that_it_is_ready(monkeypatch: pytest.MonkeyPatch):
    async with opened() as door:
        assert (await door.get("/livez")).status_code == 200
        assert (await door.get("/readyz")).json() == {"ready": True, "routes": 5}


async def test_it_is_not_ready_without_its_engine_but_lives(monkeypatch: pytest.MonkeyPatch):
    async with opened() as door:

        async def bindings() -> Any:
            raise UnavailableError("the file is gone")

        monkeypatch.setattr(door.host.transport, "bindings", bindings)

        response = await door.get("/readyz")
        assert response.status_code == 503
        assert "the file is gone" in told(response)["detail"]
        assert (await door.get("/livez")).status_code == 200


async def test_an_engine_that_does_not_answer_is_waited_for_a_little(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "READY_WITHIN", 0.01)
    async with opened() as door:
        monkeypatch.setattr(door.host.transport, "bindings", asyncio.Event().wait)

        response = await door.get("/readyz")

        assert (response.status_code, told(response)["code"]) == (503, "transport.unavailable")
        assert "did not answer" in told(response)["detail"]


async def test_whoever_asks_often_whether_it_is_ready_does_not_ask_the_engine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "ASKED_EACH", 3600.0)
    async with opened() as door:
        asked: list[None] = []

        async def bindings() -> Any:
            asked.append(None)

        monkeypatch.setattr(door.host.transport, "bindings", bindings)

        for _ in range(3):
            assert (await door.get("/readyz")).status_code == 200

        assert len(asked) == 1


async def test_its_first_page_lists_the_routes():
    async with opened() as door:
        index = (await door.get("/")).json()

        buy = {"route": "POST /orders", "operation": "shop.buy", "mode": "journaled", "instances": 1}
        assert buy in index["routes"]
        assert index["conflicts"] == []


async def test_a_service_may_have_the_first_page():
    async with opened() as door:
        home = Service("home")

        @home.handler(http="GET /")
        async def page(asked: dict[str, str]) -> str:
            return "home"

        await door.host.serve(home)
        assert page.name == "home.page"

        assert (await door.get("/")).json() == "home"
        assert (await door.head("/")).status_code == 200


async def test_a_hidden_route_is_not_served():
    async with opened(routes={"POST /orders": {"hide": True}}) as door:
        assert told(await door.post("/orders", json={"sku": "tea"}))["code"] == "route.unknown"


async def test_it_takes_part_as_an_instance_that_serves_nothing():
    async with opened() as door:
        assert [instance.service for instance in door.host.directory.all_instances if not instance.serving] == [
            "gateway"
        ]


# --- in somebody's app -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [{}, {"idempotency-key": "k"}], ids=["without key", "with key"])
async def test_mounted_it_serves_under_the_prefix_and_says_so_in_locations(key: dict[str, str]):
    async with opened(root="/api") as door:
        response = await door.post("/api/orders", json={"sku": "tea"}, headers={"prefer": "respond-async", **key})

        assert response.headers["location"] == f"/api/requests/{response.json()['id']}"
        again = await door.get(response.headers["location"])
        assert again.headers.get("location", response.headers["location"]) == response.headers["location"]
        assert (await settled(door, response.json()["id"], root="/api")).json() == {"total": 1.5}
        assert (await door.get("/api/livez")).status_code == 200
        assert (await door.get("/livez")).status_code == 404
        assert told(await door.get("/api/nowhere"))["detail"] == "no service has a route for /nowhere"


async def test_alone_it_opens_a_host_of_its_own_at_the_first_request_and_closes_it():
    gateway = Gateway(config={"env": "test", "transport": "memory:alone"})
    world = World()
    async with Host(await settings_of(transport="memory:alone")) as host:
        await host.serve(world.shop)
        async with Door(transport=ASGITransport(gateway), base_url="http://localhost") as door:
            answers = await asyncio.gather(*(door.post("/orders", json={"sku": "tea"}) for _ in range(3)))
            assert [answer.json() for answer in answers] == [{"total": 1.5}] * 3

            await gateway.close()
            await host.directory.refresh()
            assert [instance.service for instance in host.directory.all_instances] == ["shop"]


async def test_with_a_lifespan_it_opens_and_closes_with_the_app():
    sent: list[Any] = []
    events: list[Any] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    gateway = Gateway(config={"env": "test", "transport": "memory:"})

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        sent.append((event["type"], gateway._answering is not None))

    await gateway({"type": "lifespan"}, receive, send)

    assert sent == [("lifespan.startup.complete", True), ("lifespan.shutdown.complete", False)]


async def test_a_configuration_that_cannot_be_is_told_and_is_no_accident():
    gateway = Gateway(config={"env": "test", "transport": "nothing:"})
    async with Door(transport=ASGITransport(gateway), base_url="http://localhost") as door:
        response = await door.get("/livez")

        assert (response.status_code, told(response)["code"]) == (500, "config.invalid")


async def test_a_problem_of_a_users_own_app_looks_like_one_of_the_gateway():
    async def fail(_request: Any) -> Any:
        raise QueueFullError("shop.buy", 10)

    app = Starlette(exception_handlers={PosthouseError: problem})  # pyright: ignore[reportArgumentType]
    app.add_route("/fail", fail)
    async with Door(transport=ASGITransport(app), base_url="http://localhost") as door:
        response = await door.get("/fail")

        assert (response.status_code, told(response)["code"]) == (503, "queue.full")
        assert "retry-after" in response.headers


async def test_a_websocket_is_turned_away():
    async with opened() as door:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(event: Any) -> None:
            sent.append(event["type"])

        await door.gateway({"type": "websocket"}, receive, send)

        assert sent == ["websocket.close"]


@pytest.mark.parametrize(("env", "warns"), [("prod", True), ("dev", False)])
async def test_in_prod_it_says_that_it_authenticates_nobody(
    env: str, warns: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, "posthouse.gateway")

    async with opened(serving=False, env=env, transport=f"sqlite:{tmp_path / 'data'}"):
        pass

    assert ("authenticates nobody" in caplog.text) is warns
