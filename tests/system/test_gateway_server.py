"""The gateway on a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from posthouse.errors import AddressInUseError, ConfigError
from posthouse.gateway import connections
from posthouse.gateway.server import Listener, serve
from posthouse.runtime.host import Host
from tests.system.gateway_world import Mode, World, hold_the_store, settings_of, until

pytestmark = pytest.mark.anyio

BODY = b'{"sku":"tea"}'
POST = (
    b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % len(BODY)
)


class Socket:
    """A gateway that listens, with the world behind it."""

    def __init__(self, world: World, host: Host, listener: Listener) -> None:
        self.world = world
        self.host = host
        self.listener = listener
        self.port = int(listener.address.rpartition(":")[2])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, *parts: bytes) -> bytes:
        """Send these bytes over one connection, and return all that comes until it is closed."""
        reader, writer = await self.connect()
        for part in parts:
            writer.write(part)
            await writer.drain()
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def listening(mode: Mode = "journaled", **config: Any) -> AsyncGenerator[Socket]:
    world = World(mode)
    async with asyncio.timeout(20), Host(await settings_of(**config)) as host:
        await host.serve(world.shop)
        listener = await Listener.open(host, "127.0.0.1:0")
        try:
            yield Socket(world, host, listener)
        finally:
            world.gate.set()
            await listener.close()


@pytest.fixture(params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serve with one parser, whatever else is installed."""

    def find_spec(name: str) -> str | None:
        return name if name == request.param else None

    monkeypatch.setattr(connections, "find_spec", find_spec)
    return request.param


@pytest.mark.usefixtures("parser")
async def test_many_requests_over_one_connection_are_answered():
    async with listening() as door, httpx2.AsyncClient(base_url=f"http://{door.listener.address}") as client:
        for quantity in (1, 2, 3):
            response = await client.post("/orders", json={"sku": "tea", "qty": quantity})
            assert response.json() == {"total": 1.5 * quantity}
            assert "server" not in response.headers
            assert "date" in response.headers
        assert (await client.head("/search/tea")).status_code == 200
        assert (await client.delete("/orders/tea")).status_code == 204


@pytest.mark.usefixtures("parser")
async def test_a_body_that_comes_in_pieces_is_put_together():
    async with listening() as door:
        head, body = POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), BODY

        answer = await door.say(head[:20], head[20:], body[:5], body[5:])

        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b'{"total":1.5}')


async def test_a_body_that_does_not_come_is_answered_408():
    async with listening(gateway={"body_timeout": 0.02}) as door:
        reader, writer = await door.connect()
        writer.write(POST + BODY[:-1])

        assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()
        assert door.world.seen == []


@pytest.mark.usefixtures("parser")
async def test_a_body_without_a_length_is_counted_as_it_comes():
    async with listening(gateway={"body_limit": 1000}) as door:
        head = POST.replace(b"Content-Length: 13", b"Transfer-Encoding: chunked")
        reader, writer = await door.connect()
        writer.write(head + (b"64\r\n" + b" " * 100 + b"\r\n") * 11)

        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413")
        writer.close()


@pytest.mark.usefixtures("parser")
async def test_headers_that_do_not_come_close_the_connection(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "HEADERS_WITHIN", 0.02)
    async with listening() as door:
        assert await door.say(b"") == b"", "one that says nothing"
        assert await door.say(b"POST /orders HTTP/1.1\r\nHost: loc") == b"", "one that stops in the middle"


@pytest.mark.usefixtures("parser")
async def test_headers_without_end_close_the_connection():
    async with listening() as door:
        reader, writer = await door.connect()
        padding = b"X-Padding: " + b"x" * 8000 + b"\r\n"
        sent = 0
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        try:
            while not reader.at_eof():  # and until the deadline, were there no limit
                writer.write(padding)
                sent += len(padding)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass  # the other way to see that it is closed
        writer.close()
        assert sent < 32 << 20, "what fits into the buffers of the two sockets, and little more"


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(line: bytes):
    async with listening() as door:
        assert (await door.say(line)).startswith(b"HTTP/1.1 400")
        assert door.world.seen == []


async def test_a_client_that_goes_away_leaves_its_request_running():
    async with listening() as door:
        door.world.gate.clear()
        _, writer = await door.connect()
        writer.write(POST + BODY)
        await until(lambda: bool(door.world.ids))
        writer.close()
        await writer.wait_closed()

        door.world.gate.set()

        await until(lambda: bool(door.world.seen))


@pytest.mark.usefixtures("parser")
@pytest.mark.usefixtures("parser")
async def test_what_is_no_http_request_is_answered_with_a_problem_and_not_logged(caplog: pytest.LogCaptureFixture):
    async with listening() as door:
        answer = await door.say(b"\x16\x03\x01 hello\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == "http.refused"
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_what_is_held_at_the_end_is_answered_and_nothing_new_is_taken():
    async with listening() as door:
        door.world.gate.clear()
        answering = asyncio.create_task(door.say(POST + BODY))
        await until(lambda: bool(door.world.ids))

        closing = asyncio.create_task(door.listener.close())
        while True:
            try:
                _, writer = await door.connect()
            except ConnectionRefusedError:
                break
            writer.close()
        assert not answering.done()
        door.world.gate.set()

        assert (await answering).endswith(b'{"total":1.5}')
        await closing


@pytest.mark.parametrize("mode", ["journaled", "queued"])
@pytest.mark.usefixtures("parser")
async def test_who_still_waits_when_the_grace_is_over_is_told_how_it_stands(mode: Mode):
    async with listening(mode, grace=0.05, gateway={"wait": 3600}) as door:
        door.world.gate.clear()
        answering = asyncio.create_task(door.say(POST + BODY))
        await until(lambda: bool(door.world.ids))

        await door.listener.close()

        answer = await answering
        if mode == "journaled":
            assert answer.startswith(b"HTTP/1.1 202 ")
            assert b"location: /requests/%s\r\n" % door.world.ids[0].encode() in answer
        else:
            assert answer.startswith(b"HTTP/1.1 504 ")
            assert b"outcome.unknown" in answer


@pytest.mark.usefixtures("parser")
async def test_who_still_waits_when_the_end_is_hurried_is_told_where_to_ask():
    async with listening(grace=3600, gateway={"wait": 3600}) as door:
        door.world.gate.clear()
        answering = asyncio.create_task(door.say(POST + BODY))
        await until(lambda: bool(door.world.ids))
        closing = asyncio.create_task(door.listener.close())
        await asyncio.wait({closing}, timeout=0.05)
        assert not answering.done()

        closing.cancel()

        with pytest.raises(asyncio.CancelledError):
            await closing
        assert (await answering).startswith(b"HTTP/1.1 202 ")


async def test_an_end_that_is_hurried_still_answers_what_is_about_to_be_stored(monkeypatch: pytest.MonkeyPatch):
    async with listening(grace=3600, gateway={"wait": 3600}) as door:
        door.world.gate.clear()
        free = hold_the_store(door.host, monkeypatch)
        answering = asyncio.create_task(door.say(POST + BODY))
        await until(lambda: bool(door.listener._server.server_state.tasks))
        closing = asyncio.create_task(door.listener.close())
        await asyncio.wait({closing}, timeout=0.02)

        closing.cancel()
        await asyncio.wait({closing}, timeout=0.02)
        assert not closing.done()
        free.set_result(None)

        with pytest.raises(asyncio.CancelledError):
            await closing
        assert (await answering).startswith(b"HTTP/1.1 202 ")


async def test_a_port_in_use_says_so():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with Host(await settings_of()) as host:
            with pytest.raises(AddressInUseError, match=str(port)):
                await serve(host, f"127.0.0.1:{port}")
            assert host.directory.all_instances == []


@pytest.mark.parametrize(
    "bind",
    ["", "8080", ":8080", "localhost:", "localhost:x", "localhost:70000", "no.such.host.invalid:80", "203.0.113.9:80"],
)
async def test_an_address_that_cannot_be_says_so(bind: str):
    async with Host(await settings_of()) as host:
        with pytest.raises(ConfigError) as caught:
            await Listener.open(host, bind)

    assert not isinstance(caught.value, AddressInUseError)
    assert caught.value.hint


async def test_serve_ends_when_it_is_canceled():
    async with Host(await settings_of()) as host:
        serving = asyncio.create_task(serve(host, "127.0.0.1:0"))
        await until(lambda: any(instance.service == "gateway" for instance in host.directory.all_instances))

        serving.cancel()

        with pytest.raises(asyncio.CancelledError):
            await serving
