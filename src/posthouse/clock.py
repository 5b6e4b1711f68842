"""What time it is, and how long things last: nobody else asks.

An Instant is a moment of the wall clock, as processes of one machine and their files share it; a
Seconds is a length of time. Code that needs the time is handed a Clock, so that tests and the
simulation set it.
"""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Final, Protocol, TypeAlias

Instant: TypeAlias = float
"""Seconds since 1970-01-01T00:00:00Z."""

Seconds: TypeAlias = float

Duration: TypeAlias = float | str | timedelta
"""As a user writes it: seconds, "5s" or "1h30m", or a timedelta."""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> Instant:
        """Return the present moment."""
        ...


class SystemClock:
    """The machine's own clock."""

    now = staticmethod(time.time)  # no frame of ours between: it is asked for every message


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")


def seconds(duration: Duration) -> Seconds:
    """Return how many seconds a duration lasts.

    Args:
        duration: seconds as a number, a timedelta, or text of numbers with units: ms, s, m, h, d.

    Raises:
        ValueError: it is negative, not finite, or text that is none of these.
    """
    match duration:
        case timedelta():
            length = duration.total_seconds()
        case str():
            if not _WHOLE.fullmatch(duration):
                raise ValueError(f"{duration!r} is not a duration; write 5, '5s', '250ms', '1h30m' or '7d'")
            length = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(duration))
        case _:
            length = float(duration)
    if not 0 <= length < float("inf"):
        raise ValueError(f"a duration is 0 or more, and finite; this is {duration!r}")
    return length
