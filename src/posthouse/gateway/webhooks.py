"""Signatures of incoming webhooks: an HMAC over the exact bytes of the body.

Checked before the body is parsed or anything is stored. One answer for a missing and for a wrong
signature, and a comparison that takes as long for each: nobody learns how near a guess was. Secrets
are read once, when the gateway opens, and never shown.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from posthouse.errors import ConfigError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from posthouse.runtime.settings import SignatureSettings

_WRONG: Final = "the signature of the webhook is missing or wrong"


class Verifier:
    """Checks the signatures of one route."""

    __slots__ = ("_algorithm", "_header", "_key", "_prefix")

    def __init__(self, settings: SignatureSettings, key: bytes) -> None:
        self._header = settings.header.lower().encode("latin-1")
        self._prefix = settings.prefix.encode("latin-1")
        self._algorithm = settings.algorithm
        self._key = key

    def check(self, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """Pass, or raise.

        Args:
            headers: by name in lower case.
            body: as it came.

        Raises:
            SignatureError: the signature is missing or wrong.
        """
        expected = self._prefix + hmac.digest(self._key, body, self._algorithm).hex().encode()
        if not hmac.compare_digest(headers.get(self._header, b""), expected):
            raise SignatureError(_WRONG)


def verifier(settings: SignatureSettings, route: str) -> Verifier:
    """Return what checks the signatures of a route; reads the secret, and may block.

    Args:
        settings: what posthouse.toml says; the secret is the text itself, "file:PATH" or "env:NAME".
        route: for the error.

    Raises:
        ConfigError: there is no secret where it should be.
    """
    kind, _, place = settings.secret.partition(":")
    try:
        match kind:
            case "file" if place:
                secret = Path(place).read_bytes().strip()
            case "env" if place:
                secret = os.environ.get(place, "").encode()
            case _:
                secret = settings.secret.encode()
    except OSError as error:
        raise ConfigError(f'routes."{route}".signature: {place} cannot be read: {error.strerror}') from error
    if not secret:
        where = {"env": f": the variable {place} is empty or not set", "file": f": {place} is empty"}.get(kind, "")
        raise ConfigError(
            f'routes."{route}".signature has an empty secret{where}',
            hint="A signature that is checked against nothing would let everyone in: put the secret there.",
        )
    return Verifier(settings, secret)
