"""A child process of ours, which cannot outlive us.

The child holds the reading end of a pipe that only we hold open: when we are gone, killed even, the
kernel closes it and the child ends itself (see parent.py). A second pipe tells us that it is ready.
Each child has a session of its own, so that Ctrl-C reaches us alone and we end it in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from posthouse.clock import Seconds

PYTHON: Final = (sys.executable, "-P", "-m", "posthouse.cli")  # -P: a file of the user's must not stand for one of ours
_NEWS_LIMIT: Final = 1024
KILL_AFTER: Final[Seconds] = 5.0
"""How long beyond its grace time a child may take to end, before it is killed."""


class Child:
    """One running child.

    Attributes:
        name: what it is, for people.
        was_ready: whether it has said that it serves.
        address: where its gateway listens, once it has said so.
    """

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        *,
        lifeline: int,
        news: int,
        on_ready: Callable[[Child], object] | None,
    ) -> None:
        self.name = name
        self.was_ready = False
        self.address = ""
        self._on_ready = on_ready
        self._process = process
        self._lifeline = lifeline
        self._news = news
        asyncio.get_running_loop().add_reader(news, self._hear)

    @classmethod
    async def start(
        cls,
        name: str,
        arguments: Sequence[str],
        *,
        stdout: int | None = None,
        on_ready: Callable[[Child], object] | None = None,
    ) -> Self:
        """Start one.

        Args:
            name: what it is, for people.
            arguments: of `posthouse`.
            stdout: as for subprocess.
            on_ready: called when it says that it serves.
        """
        lifeline_end, lifeline = os.pipe()
        news, news_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *PYTHON,
                *arguments,
                f"--lifeline={lifeline_end}",
                f"--news={news_end}",
                pass_fds=(lifeline_end, news_end),
                start_new_session=True,
                stdout=stdout,
            )
        except BaseException:
            os.close(lifeline)
            os.close(news)
            raise
        finally:
            os.close(lifeline_end)
            os.close(news_end)
        return cls(name, process, lifeline=lifeline, news=news, on_ready=on_ready)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its end, and return its exit status; negative for the signal that killed it."""
        status = await self._process.wait()
        self._let_go()
        return status

    async def output(self) -> tuple[bytes, int]:
        """Read its standard output to the end, and return it with its exit status."""
        out, _ = await self._process.communicate()
        return out, await self.wait()

    async def end(self, grace: Seconds) -> int:
        """Ask it to end, and kill it when it takes longer than its grace time."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace + KILL_AFTER):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, which: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it was faster
            self._process.send_signal(which)

    def _hear(self) -> None:
        told = os.read(self._news, _NEWS_LIMIT)
        self.was_ready = bool(told)
        self.address = told.decode().strip()
        asyncio.get_running_loop().remove_reader(self._news)
        if self.was_ready and self._on_ready is not None:
            self._on_ready(self)

    def _let_go(self) -> None:
        if self._lifeline < 0:
            return
        asyncio.get_running_loop().remove_reader(self._news)
        os.close(self._lifeline)
        os.close(self._news)
        self._lifeline = self._news = -1


def said(status: int) -> str:
    """Return what an exit status means, as part of a sentence."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return "ended" if status == 0 else f"ended with exit status {status}"
