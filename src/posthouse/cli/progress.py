"""Shows how far long work is: one line on stderr that is written over, where that is a terminal."""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

from posthouse.cli.output import size

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from posthouse.clock import Seconds

_EVERY: Final[Seconds] = 0.1
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """The line; it is gone when the block ends.

    Args:
        doing: what is done, as "copying".
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._shows = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, service: str, done: int, whole: int) -> None:
        """Show how far it is.

        Args:
            service: whose store is at work.
            done: bytes.
            whole: bytes of all.
        """
        if not self._shows or monotonic() < self._next:
            return
        self._next = monotonic() + _EVERY
        sys.stderr.write(f"{_CLEAR}{self._doing} {service}: {size(done)} of {size(whole)}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away, so that something else can be said."""
        if self._shows and self._next:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._next = 0.0
