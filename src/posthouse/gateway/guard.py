"""In dev: who may speak to this gateway from a browser.

A page of any site can make the browser on this machine ask 127.0.0.1, by a name of its own that
points there (DNS rebinding) or by a plain form. So in dev the Host header must name the gateway
itself, and the Origin of a write too. In prod this is the business of authentication.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.errors import HostRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REMEMBERED: Final = 64


class Guard:
    """Lets pass what names the gateway itself.

    Args:
        hosts: names that it may be called beside those of loopback; a port in them does not matter.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._names = {name_of(host) for host in (*LOOPBACK, *hosts)} - {""}
        self._passed: set[bytes] = set()

    def check(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Pass, or raise.

        Raises:
            HostRefusedError: Host, or the Origin of a write, names another site.
        """
        host = headers.get(b"host", b"")
        if host not in self._passed:
            self._check_host(host)
        if b"origin" in headers and method not in _READS:
            origin = headers[b"origin"].decode("latin-1")
            scheme, _, site = origin.partition("://")
            if scheme not in {"http", "https"} or name_of(site) not in self._names:
                raise HostRefusedError(f"a page of {origin!r} may not write here")

    def _check_host(self, host: bytes) -> None:
        text = host.decode("latin-1")
        if name_of(text) not in self._names:
            raise HostRefusedError(f"the Host header names {text!r}, which is not this gateway")
        if len(self._passed) < _REMEMBERED:
            self._passed.add(host)


def name_of(host: str) -> str:
    """Return the name in "NAME:PORT", in lower case; "[...]" is a name with colons of its own."""
    host = host.strip().lower()
    if host.startswith("["):
        end = host.find("]")
        rest = host[end + 1 :]
        return host[: end + 1] if end > 0 and (not rest or _is_port(rest)) else ""
    name, colon, port = host.partition(":")
    return name if not colon or _is_port(":" + port) else ""


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdigit()
