"""What an exit status means. Scripts rely on these numbers."""

from __future__ import annotations

from typing import Final

from posthouse.errors import (
    ConfigError,
    NotDoneError,
    NotServedError,
    NotStoredError,
    OutcomeUnknownError,
    PendingError,
    PosthouseError,
    StorageError,
    UnavailableError,
    UsageError,
)

FINE: Final = 0
FINDING: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
REFUSED: Final = 4

_BY_CLASS: Final[tuple[tuple[type[PosthouseError], int], ...]] = (  # the first that fits counts
    (StorageError, UNREACHABLE),
    (UnavailableError, UNREACHABLE),
    (NotServedError, UNREACHABLE),
    (PendingError, UNREACHABLE),
    (OutcomeUnknownError, UNREACHABLE),
    (ConfigError, USAGE),
    (UsageError, USAGE),
    (NotDoneError, REFUSED),
    (NotStoredError, REFUSED),
)


def status_of(error: PosthouseError) -> int:
    """Return the exit status for an error."""
    return next((status for kind, status in _BY_CLASS if isinstance(error, kind)), FINDING)
