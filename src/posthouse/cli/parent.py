"""What a child does for its parent: ends when the parent is gone, and says when it is ready.

A thread waits on the pipe, not the loop: the parent may go while the child is still importing the
user's program, or while a handler blocks.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from posthouse.clock import Seconds

_LAST_MOMENT: Final[Seconds] = 5.0


def of_parent(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options by which a parent passes the two pipes."""
    command = click.option("--lifeline", type=int, default=-1, hidden=True)(command)
    return click.option("--news", type=int, default=-1, hidden=True)(command)


def end_with_parent(lifeline: int, *, grace: Seconds) -> None:
    """From now on, end when the parent does: drained as for SIGTERM, and for certain after the grace time."""
    if lifeline < 0:
        return
    os.set_inheritable(lifeline, False)  # the user's own children need not hold it

    def watch() -> None:
        os.read(lifeline, 1)  # nothing is ever written: this returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace + _LAST_MOMENT)
        os._exit(1)

    threading.Thread(target=watch, name="posthouse lifeline", daemon=True).start()


def tell_ready(news: int, address: str) -> None:
    """Tell the parent that this child serves now, and where its gateway listens, if it has one."""
    if news >= 0:
        os.write(news, f"{address}\n".encode())
        os.close(news)
