"""`posthouse up APP`: a process for each service, and one for the gateway; what dies is started again.

First a short-lived child announces everything: queues, subscriptions and contracts are there before
the first message is delivered and before the gateway opens. What fails before it ever served, with
something that no restart can mend (a port in use), ends the whole; anything else is started again,
later each time, and at once when it had run well for a while.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click
import msgspec

from posthouse.cli import exits, notices
from posthouse.cli.banner import banner, facts
from posthouse.cli.children import Child, said
from posthouse.cli.options import Options, common
from posthouse.contracts.registry import Contract
from posthouse.errors import UsageError
from posthouse.runtime.signals import Signals

if TYPE_CHECKING:
    from posthouse.clock import Seconds
    from posthouse.runtime.settings import Settings

FIRST_WAIT: Final[Seconds] = 0.1
LONGEST_WAIT: Final[Seconds] = 30.0
LONGEST_OF_WHO_SERVED: Final[Seconds] = 1.0
"""Who was ready and died is missed; only who never gets so far has all the time in the world."""

RAN_WELL: Final[Seconds] = 10.0
"""Who has run for so long starts again at once."""

_LAST: Final = frozenset({exits.USAGE, exits.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the system: its name for people, and its arguments."""

    name: str
    arguments: list[str]


@click.command()
@click.argument("app")
@click.option("--bind", metavar="HOST:PORT", help="Where the gateway listens [default: 127.0.0.1:8080].")
@click.option(
    "--instances", metavar="SERVICE=N", multiple=True, help="So many processes of a service; may be repeated."
)
@click.option("--no-gateway", is_flag=True, help="Only the services.")
@common
def up(options: Options, app: str, bind: str | None, instances: tuple[str, ...], no_gateway: bool) -> int:
    """Run a process for each service of APP and one for the gateway, and restart those that die."""
    counts = dict(map(_count, instances))
    options.mind(app)
    settings = options.settings(gateway={"bind": bind})
    return asyncio.run(_System(options, settings, app, gateway=not no_gateway).run(counts))


def wait_before(restart: int, *, had_served: bool = False) -> Seconds:
    """Return how long to hold off before the restart of this number (1, 2, ...) in a row."""
    longest = LONGEST_OF_WHO_SERVED if had_served else LONGEST_WAIT
    return min(longest, FIRST_WAIT * 2.0 ** min(restart - 1, 16))


class _System:
    """All processes of one program."""

    def __init__(self, options: Options, settings: Settings, app: str, *, gateway: bool) -> None:
        self._options = options
        self._settings = settings
        self._app = app
        self._bind = settings.gateway.bind if gateway else ""
        self._signals = Signals()
        self._gateway_ended = asyncio.Event()
        self._children: set[Child] = set()
        self._contracts: list[Contract] = []
        self._awaited: set[str] = set()
        self._status = exits.FINE

    async def run(self, counts: dict[str, int]) -> int:
        """Serve until told to end; return the exit status."""
        with self._signals:
            self._signals.hurry = self._kill_all
            contracts = await self._announced()
            if contracts is None:
                return self._status
            parts = self._parts([contract.service for contract in contracts], counts)
            self._awaited = {part.name for part in parts}
            self._contracts = contracts
            if not self._bind:
                self._gateway_ended.set()
            async with asyncio.TaskGroup() as keepers:
                for part in parts:
                    keepers.create_task(self._keep(part), name=f"keep {part.name}")
        return self._status

    async def _announced(self) -> list[Contract] | None:
        """Announce all, and return the contracts; None when that failed or was interrupted."""
        child = await self._start(Part("announce", ["_announce", self._app]), stdout=subprocess.PIPE)
        reading = asyncio.create_task(child.output())
        asked = asyncio.create_task(self._signals.asked.wait())
        await asyncio.wait({reading, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            child.kill()
        asked.cancel()
        out, self._status = await reading
        self._children.discard(child)
        if self._signals.asked.is_set():
            self._status = exits.FINE
            return None
        if self._status:
            self._status = self._status if self._status > 0 else exits.FINDING
            return None
        return [
            msgspec.json.decode(line, type=Contract) for line in out.splitlines() if line.startswith(b'{"service":')
        ]

    def _parts(self, services: Sequence[str], counts: dict[str, int]) -> list[Part]:
        from posthouse.runtime.layers import nearest

        for name in counts:
            if name not in services:
                raise UsageError(f"--instances: {self._app} has no service {name!r}{nearest(name, services)}")
        parts: list[Part] = []
        for name in services:
            count = counts.get(name, 1)
            arguments = ["_serve", self._app, f"--only={name}"]
            parts += [Part(name if count == 1 else f"{name}/{number}", arguments) for number in range(1, count + 1)]
        if self._bind:
            parts.append(Part("gateway", ["_serve", f"--gateway={self._bind}"]))
        return parts

    async def _keep(self, part: Part) -> None:
        """Run one part until the end, again and again."""
        restarts, ever_ready = 0, False
        loop = asyncio.get_running_loop()
        while not self._signals.asked.is_set():
            began = loop.time()
            child = await self._start(part)
            self._tell(part, "started", f"{part.name} started (pid {child.pid})", pid=child.pid)
            status = await self._until_its_end(part, child)
            self._children.discard(child)
            ever_ready = ever_ready or child.was_ready
            if self._signals.asked.is_set():
                self._tell(part, "stopped", f"{part.name} stopped", pid=child.pid, status=status)
                break
            if not ever_ready and status in _LAST:
                self._status = self._status or status
                self._signals.asked.set()
                break
            restarts = 1 if loop.time() - began > RAN_WELL else restarts + 1
            wait = wait_before(restarts, had_served=child.was_ready)
            text = f"{part.name} (pid {child.pid}) {said(status)}; starting it again in {wait:.1f} s"
            self._tell(part, "died", text, pid=child.pid, status=status, wait=wait)
            await self._asked_within(wait)
        if part.name == "gateway":
            self._gateway_ended.set()

    def _is_ready(self, part: Part, child: Child) -> None:
        if child.address:
            self._bind = child.address  # port 0 has become a real one
        if part.name in self._awaited:
            self._awaited.discard(part.name)
            if not self._awaited:
                text = f"ready: {banner(self._contracts, self._settings, bind=self._bind)}"
                notices.notice(
                    self._options, text, event="ready", **facts(self._contracts, self._settings, bind=self._bind)
                )

    async def _until_its_end(self, part: Part, child: Child) -> int:
        """Wait for the child's end; when all end, the gateway goes first, while services still answer it."""
        died = asyncio.create_task(child.wait())
        asked = asyncio.create_task(self._signals.asked.wait())
        try:
            await asyncio.wait({died, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        if not died.done():
            if part.name != "gateway":
                await self._gateway_ended.wait()
            await child.end(self._settings.grace)
        return await died

    async def _asked_within(self, wait: Seconds) -> None:
        try:
            async with asyncio.timeout(wait):
                await self._signals.asked.wait()
        except TimeoutError:
            pass  # nobody asked: go on

    async def _start(self, part: Part, *, stdout: int | None = None) -> Child:
        arguments = [*part.arguments, *self._options.flags()]
        child = await Child.start(
            part.name, arguments, stdout=stdout, on_ready=lambda child: self._is_ready(part, child)
        )
        self._children.add(child)
        return child

    def _kill_all(self) -> None:
        for child in self._children:
            child.kill()

    def _tell(self, part: Part, event: str, text: str, **more: object) -> None:
        notices.notice(self._options, text, event=event, part=part.name, **more)


def _count(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not (equals and name and number.isdecimal() and 1 <= int(number) <= 1000):
        raise UsageError(f"--instances {text!r} is not SERVICE=N", hint="Write --instances prices=2; N is 1 to 1000.")
    return name, int(number)
