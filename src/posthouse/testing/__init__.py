"""For our users' tests and ours: a harness, a clock that is set by hand, a transport that fails to order.

The suites that every backend passes stand in `posthouse.testing.conformance`; they need pytest, the
rest does not.
"""

from __future__ import annotations

from posthouse.testing.clock import ManualClock
from posthouse.testing.faulty import FaultyTransport
from posthouse.testing.harness import Harness

__all__ = ["FaultyTransport", "Harness", "ManualClock"]
