"""The HTTP door: routes from the contracts of services, answers by their replies.

Only what a user's own ASGI app needs stands here; the rest is `posthouse gateway`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posthouse.gateway.app import Gateway as Gateway
    from posthouse.gateway.app import problem as problem

__all__ = ["Gateway", "problem"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from posthouse.gateway import app  # heavier than its name: not before it is asked for

    return getattr(app, name)
