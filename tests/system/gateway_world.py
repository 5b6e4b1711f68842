"""A service behind a gateway, both over a real host in memory, and an HTTP client before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeAlias

import pytest
from httpx2 import ASGITransport, AsyncClient, Response
from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.routing import Mount

from posthouse import Context, HttpRequest, Reject, Service
from posthouse.gateway import Gateway
from posthouse.runtime.host import Host
from posthouse.runtime.journal.journal import Journal
from posthouse.runtime.settings import Settings, load

Mode: TypeAlias = Literal["journaled", "queued"]


class Order(Struct):
    sku: str
    qty: Annotated[int, Meta(ge=1)] = 1


class Price(Struct):
    total: float


class Search(Struct):
    text: str
    tags: list[str] = []
    most: int = 10


class CardRefusedError(Reject):
    code = "card.refused"
    status = 402


class World:
    """A service, a gateway before it, and what the service was given.

    Args:
        mode: of the operations that are not queries.
    """

    def __init__(self, mode: Mode = "journaled") -> None:
        self.shop = Service("shop")
        self.seen: list[Any] = []
        self.ids: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        shop, seen = self.shop, self.seen

        @shop.handler(http="POST /orders", mode=mode, attempts=1, rejects=(CardRefusedError,))
        async def buy(order: Order, ctx: Context) -> Price:
            self.ids.append(ctx.id)
            await self.gate.wait()
            seen.append(order)
            if order.sku == "no money":
                raise CardRefusedError("the bank says no", bank="first")
            if order.sku == "broken":
                raise KeyError("the till is stuck")
            return Price(1.5 * order.qty)

        @shop.handler(http="PUT /orders/{sku}", mode=mode, status=201)
        async def put(order: Order) -> Order:
            seen.append(order)
            return order

        @shop.handler(http="DELETE /orders/{sku}", mode=mode)
        async def drop(order: Order) -> None:
            seen.append(order)

        @shop.handler(http="GET /search/{text}")
        async def search(asked: Search) -> Search:
            seen.append(asked)
            await self.gate.wait()
            return asked

        @shop.handler(http="POST /hook", mode=mode)
        async def hook(request: HttpRequest) -> None:
            seen.append(request)

        assert all((buy, put, drop, search, hook))


class Door(AsyncClient):
    """An HTTP client of a gateway, with the world behind it."""

    world: World
    host: Host
    gateway: Gateway


async def settings_of(**config: Any) -> Settings:
    """Return settings; they look for files, which does not belong on the loop."""
    return await asyncio.to_thread(load, {"env": "test", "transport": "memory:", **config}, environ={})


@asynccontextmanager
async def opened(
    *, mode: Mode = "journaled", serving: bool = True, root: str = "", **config: Any
) -> AsyncGenerator[Door]:
    """Open a host with the service and the gateway."""
    world = World(mode)
    async with Host(await settings_of(**config)) as host:
        await (host.serve if serving else host.announce)(world.shop)
        async with gateway_of(host, world, root=root) as door:
            yield door


@asynccontextmanager
async def gateway_of(host: Host, world: World, *, root: str = "") -> AsyncGenerator[Door]:
    """Open a gateway on a host."""
    gateway = Gateway.of(host)
    await gateway.open()
    app = Starlette(routes=[Mount(root, gateway)]) if root else gateway
    transport = ASGITransport(app, raise_app_exceptions=True)
    async with asyncio.timeout(20), Door(transport=transport, base_url="http://localhost") as door:
        door.world, door.host, door.gateway = world, host, gateway
        yield door
    await gateway.close()


@asynccontextmanager
async def gateway_alone(world: World, **config: Any) -> AsyncGenerator[Door]:
    """Open a gateway on a host of its own; the service is another's."""
    async with Host(await settings_of(**config)) as host, gateway_of(host, world) as door:
        yield door


def told(response: Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:posthouse:error:{problem['code']}"
    assert {"title", "detail"} <= set(problem)
    return problem


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def settled(door: Door, id: str, *, root: str = "") -> Response:
    """Ask for a request until it is not open any more, and return what it came to."""
    while True:
        response = await door.get(f"{root}/requests/{id}")
        if response.status_code != 202 or "location" not in response.headers:
            return response
        await asyncio.sleep(0)


def journal_of(door: Door) -> Journal:
    """Return the journal of the gateway."""
    return _journal(door.host)


def hold_the_store(host: Host, monkeypatch: pytest.MonkeyPatch) -> asyncio.Future[None]:
    """Have no request be stored until the returned future is done; with its error, if it has one."""
    store = _journal(host).store
    commit, free = store.commit, asyncio.get_running_loop().create_future()

    def held(step: Any, **how: Any) -> Any:
        return asyncio.ensure_future(_after(free, commit, step, how)) if how["name"] == "ask" else commit(step, **how)

    monkeypatch.setattr(store, "commit", held)
    return free


def _journal(host: Host) -> Journal:
    journal = host.journals.get("gateway")
    assert journal is not None
    return journal


async def _after(free: asyncio.Future[None], commit: Any, step: Any, how: dict[str, Any]) -> Any:
    await free
    return await commit(step, **how)
