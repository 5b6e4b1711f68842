"""Opens a running system for a command that looks at it or asks it something.

Such a command makes nothing: in a wrong directory it says so, and leaves no empty data directory
behind that would hide the mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from posthouse.errors import StorageError, UsageError
from posthouse.runtime.host import Host

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from posthouse.cli.options import Options
    from posthouse.runtime.settings import Settings

_T = TypeVar("_T")

NAME = "cli"
"""In whose name the command line asks."""


def visit(options: Options, work: Callable[[Host], Coroutine[Any, Any, _T]]) -> _T:
    """Open the system, do some work in it, and close it.

    Raises:
        StorageError: there is no data directory where it should be.
        UsageError: the transport lives inside another process.
        PosthouseError: what opening it or the work raised.
    """
    settings = options.settings()
    check_there(settings)

    async def visited() -> _T:
        async with opened(settings) as host:
            return await work(host)

    return asyncio.run(visited())


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Host]:
    """Open the system for as long as the block lasts."""
    async with Host(settings) as host:
        yield host


def check_there(settings: Settings) -> None:
    """See that there is something to look at.

    Raises:
        StorageError: there is no data directory where it should be, or it may not be looked into.
        UsageError: the transport lives inside another process.
    """
    scheme, _, place = settings.transport.partition(":")
    if scheme == "memory":
        raise UsageError(
            "a memory: transport lives inside one process; no other can look into it",
            hint="Use a transport that is shared, as sqlite: is.",
        )
    if scheme == "sqlite" and not is_directory(Path(place)):
        raise StorageError(
            f"there is no data directory {place}",
            hint="Go to where posthouse.toml is, or name the directory with --data; `posthouse dev` makes one.",
        )


def is_directory(place: Path) -> bool:
    """Say whether there is such a directory.

    Raises:
        StorageError: this user may not know.
    """
    try:
        return place.is_dir()
    except OSError as error:
        raise StorageError(
            f"{place} cannot be looked into: {error.strerror}",
            hint="Run this as the user whose it is, or name another directory with --data.",
        ) from error
