"""What a wrong declaration is told: where it stands, and what to write instead.

A declaration is wrong at import, before anything is started, so it is a TypeError; it has a stable
code too, because the command line shows it without a traceback.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from posthouse.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable

_BETWEEN: Final = ("posthouse.declare", "typing")
"""Whose frames stand between a declaration and us: our own, and those of `Operation[Order, Price](...)`."""


def place_of(function: Callable[..., Any]) -> str:
    """Return "app.py:12" for a function: the line of its `def`, or of its first decorator."""
    code = getattr(_innermost(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(function)


def place_of_caller() -> str:
    """Return "app.py:12" for the line, outside of this package, that made the declaration."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - the documented way to a caller's line
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_BETWEEN):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def wrong(what: str, do: str, *, where: str = "") -> DeclarationError:
    """Return the error for a declaration that cannot work.

    Args:
        what: what is wrong, without a full stop: "handler 'quote' has no annotations".
        do: what to write instead, as an order: "give each parameter a type".
        where: "app.py:12"; the line that makes the declaration, when empty.
    """
    return DeclarationError(what, do=do, where=where or place_of_caller())


def _innermost(function: Any) -> Any:
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        function = inner
    return getattr(function, "__func__", function)
