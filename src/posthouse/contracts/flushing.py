"""What a backend says of what it has committed, and could not flush."""

from __future__ import annotations

from posthouse.errors import UnavailableError


class NotFlushedError(UnavailableError):
    """It was done, and all processes see it; whether it outlives a power cut is not known."""
