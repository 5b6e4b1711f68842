"""Idempotency keys as they come: what is one, and what it was used for.

Where they are kept depends on the route: see journaled and status.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from posthouse.errors import HttpError

LIMIT: Final = 255
"""The longest key, in characters."""

_DIGEST_SIZE: Final = 16


class Given(NamedTuple):
    """A key that came with an HTTP request.

    Attributes:
        key: it.
        digest: of what was asked under it.
    """

    key: str
    digest: bytes


def read_key(header: bytes, *, path: str, query: bytes, body: bytes) -> Given:
    """Return the key of an HTTP request.

    Args:
        header: the value of the header that holds the key.
        path: fields of the data may stand in it, and in the query.
        query: as it came.
        body: as it came.

    Raises:
        HttpError: it is no key.
    """
    key = header.decode("latin-1")
    if not 0 < len(key) <= LIMIT or not key.isprintable():
        raise HttpError(f"an idempotency key has 1 to {LIMIT} printable characters")
    asked = b"\n".join((path.encode(), query, body))
    return Given(key, hashlib.blake2b(asked, digest_size=_DIGEST_SIZE).digest())
