"""How the HTTP client wants to hear back: the Prefer header (RFC 7240)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from posthouse.clock import Seconds

_WAIT: Final = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?")


def preferred(header: bytes, wait: Seconds) -> tuple[Seconds, str]:
    """Return how long to wait, and which preference led to it; empty when none did.

    Args:
        header: the value; preferences that are not known are passed over, as the RFC asks.
        wait: how long the route waits, which no preference makes longer.
    """
    applied = ""
    for preference in header.decode("latin-1").lower().split(","):
        name = preference.partition(";")[0].strip()
        if name == "respond-async":
            return 0.0, "respond-async"
        if (found := _WAIT.fullmatch(name)) and (asked := float(found[1])) <= wait:
            wait, applied = asked, f"wait={found[1]}"
    return wait, applied
