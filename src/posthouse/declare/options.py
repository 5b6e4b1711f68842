"""How a target runs, from what the program wrote to numbers: durations, backoff, rate, counts.

Each is checked where it is declared, so that a slip is seen at import and not at the first failure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from posthouse.clock import seconds
from posthouse.declare.target import RunOptions
from posthouse.declare.wrong import wrong

if TYPE_CHECKING:
    from collections.abc import Mapping

    from posthouse.clock import Duration, Seconds

RUN: Final = ("timeout", "attempts", "backoff", "exhausted", "concurrency")
OPERATION: Final = (*RUN, "name", "http", "status", "rate")
CONTRACT: Final = ("mode", "key", "rejects")
SUBSCRIPTION: Final = (*RUN, "name", "start")

_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)/(s|m|h|d)", re.ASCII)
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def check_known(how: Mapping[str, Any], known: tuple[str, ...], of: str, where: str) -> None:
    """Refuse an option that there is not, with the one that was probably meant."""
    for name in how:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}=?" if near else f"there are {', '.join(f'{each}=' for each in known)}"
            raise wrong(f"{of} has no option {name}=", meant, where=where)


def run_options(how: Mapping[str, Any], of: str, where: str) -> RunOptions:
    """Return the options that say how a target runs.

    Args:
        how: as the user wrote them; others are left alone.
        of: what they belong to, for errors: "handler 'prices.quote'".
        where: its place, for errors.

    Raises:
        DeclarationError: one of them cannot be read, or is out of its bounds.
    """
    exhausted = how.get("exhausted")
    if exhausted not in {None, "park", "fail"}:
        raise wrong(f"exhausted= of {of} is {exhausted!r}", "write 'park' or 'fail'", where=where)
    timeout = how.get("timeout")
    return RunOptions(
        timeout=None if timeout is None else duration(timeout, "timeout", of, where, above_zero=True),
        attempts=_count(how, "attempts", of, where),
        backoff=_backoff(how.get("backoff"), of, where),
        exhausted=exhausted,
        concurrency=_count(how, "concurrency", of, where),
    )


def duration(text: Duration, option: str, of: str, where: str, *, above_zero: bool = False) -> Seconds:
    """Return how long an option says.

    Raises:
        DeclarationError: it cannot be read, or is 0 where it may not be.
    """
    try:
        length = seconds(text)
    except (TypeError, ValueError) as error:
        raise wrong(f"{option}= of {of} cannot be read: {error}", f"write {option}='5s'", where=where) from error
    if above_zero and not length:
        raise wrong(f"{option}= of {of} is 0", f"write a time above 0, or leave {option}= out", where=where)
    return length


def count(number: Any, option: str, of: str, where: str = "") -> int:
    """Return a number that must be whole, and 1 or more.

    Raises:
        DeclarationError: it is not.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise wrong(f"{option}= of {of} is {number!r}", "write a whole number, 1 or more", where=where)
    return number


def rate_of(text: str) -> tuple[float, Seconds]:
    """Return (how many, in how many seconds) of a rate such as "100/s" or "5/m".

    Raises:
        ValueError: it is not written like that, or is 0.
    """
    match = _RATE.fullmatch(text)
    if match is None or not float(match[1]):
        raise ValueError(f"{text!r} is not a rate; write '100/s', '5/m', '2.5/h' or '1000/d'")
    return float(match[1]), _SECONDS[match[2]]


def check_rate(text: Any, of: str, where: str) -> str:
    """Return a rate as it was written, if it can be read.

    Raises:
        DeclarationError: it cannot.
    """
    try:
        rate_of(text)
    except (TypeError, ValueError) as error:
        raise wrong(f"rate= of {of} cannot be read: {error}", "write rate='100/s'", where=where) from error
    return text


def _count(how: Mapping[str, Any], option: str, of: str, where: str) -> int | None:
    number = how.get(option)
    return None if number is None else count(number, option, of, where)


def _backoff(text: Any, of: str, where: str) -> tuple[Seconds, Seconds] | None:
    if text is None:
        return None
    try:
        first, dots, longest = text.partition("..")
        if not dots:
            raise ValueError(f"{text!r} has no '..'")
        waits = seconds(first), seconds(longest)
        if not 0 < waits[0] <= waits[1]:
            raise ValueError("the first wait is above 0, and no longer than the longest")
    except (AttributeError, ValueError) as error:
        raise wrong(f"backoff= of {of} cannot be read: {error}", "write backoff='1s..5m'", where=where) from error
    return waits
