"""Real processes for tests: a program that is given as text, and what it prints."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

BEGINNING = """
import asyncio, sys
from pathlib import Path
from posthouse.backends.sqlite import Database, SqliteRegistry, SqliteTransport
from posthouse.clock import SystemClock
from posthouse.contracts.registry import Instance
from posthouse.contracts.transport import ACCEPTED, Outgoing, QueueSpec, Released

directory, peer = Path(sys.argv[1]), sys.argv[2]
clock = SystemClock()
database = Database(directory, clock=clock, slow_flush=1000.0)  # all alike, whatever else the disk does now
transport = SqliteTransport(database, peer=peer, clock=clock)

def tell(*words):
    print(*words, flush=True)

def asked():
    return sys.stdin.readline().strip()
"""

PATIENCE = 30.0


class Child:
    """A running process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """Return the next line that it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "the child ended without a word; see its stderr"
        return line.decode().strip()

    def ask(self, word: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")

    async def kill(self) -> None:
        """End it as no program can prevent, and wait until it is gone."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def child(directory: Path, peer: str, program: str) -> AsyncGenerator[Child]:
    """Run a program in a process of its own; it is killed in the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        BEGINNING + dedent(program),
        str(directory),
        peer,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        # asyncio closes the pipes with the transport, one turn later
        process._transport.close()  # pyright: ignore
        await asyncio.sleep(0)
