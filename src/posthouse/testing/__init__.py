"""For our users' tests and ours: a harness, a clock that is set by hand, a transport that fails to order.

The suites that every backend passes stand in `posthouse.testing.conformance`; they need pytest, the
rest does not. The harness brings the whole runtime, so it is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posthouse.testing.clock import ManualClock
from posthouse.testing.faulty import FaultyTransport

if TYPE_CHECKING:
    from posthouse.testing.harness import Harness

__all__ = ["FaultyTransport", "Harness", "ManualClock"]


def __getattr__(name: str) -> Any:
    if name != "Harness":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from posthouse.testing.harness import Harness

    return Harness
