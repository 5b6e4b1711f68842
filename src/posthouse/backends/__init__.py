"""The engines: finds a backend by its URL, and imports it when it is first asked for.

To add a backend is to add a row to SCHEMES: its module offers
`backend(location, *, peer, clock) -> (transport, registry)`. No backend imports another.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from posthouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from posthouse.clock import Clock
    from posthouse.contracts.registry import Registry
    from posthouse.contracts.transport import Transport

__all__ = ["SCHEMES", "Scheme", "open_backend"]


class Scheme(NamedTuple):
    """One kind of URL.

    Attributes:
        module: where its backend is.
        example: a URL of this kind, for errors.
        extra: the extra of our package that brings what the module imports; empty when nothing is missing.
    """

    module: str
    example: str
    extra: str = ""


SCHEMES: Final[Mapping[str, Scheme]] = {
    "memory": Scheme("posthouse.backends.memory", "memory:"),
    "sqlite": Scheme("posthouse.backends.sqlite", "sqlite:.posthouse"),
}


class _Module(Protocol):
    def backend(self, location: str, *, peer: str, clock: Clock) -> tuple[Transport, Registry]: ...


def open_backend(url: str, *, peer: str, clock: Clock) -> tuple[Transport, Registry]:
    """Return the transport and the registry at a URL; neither is connected yet.

    Args:
        url: `SCHEME:LOCATION`; for SQLite the location is the data directory, for memory a name.
        peer: where this process is reached directly; unique on the engine.
        clock: what time it is.

    Raises:
        ConfigError: nothing keeps URLs of this kind, or what keeps them is not installed.
    """
    name, colon, location = url.partition(":")
    scheme = SCHEMES.get(name.lower()) if colon else None
    if scheme is None:
        raise _unknown(url, name)
    try:
        module = cast("_Module", import_module(scheme.module))
    except ModuleNotFoundError as error:
        if not scheme.extra or (error.name or "").partition(".")[0] == "posthouse":
            raise
        raise ConfigError(
            f"{name}: URLs need the package {error.name!r}, which is not installed",
            hint=f"pip install 'posthouse[{scheme.extra}]'",
        ) from error
    return module.backend(location, peer=peer, clock=clock)


def _unknown(url: str, name: str) -> ConfigError:
    close = difflib.get_close_matches(name.lower(), SCHEMES, n=1)
    meant = f"; did you mean {SCHEMES[close[0]].example!r}?" if close else ""
    known = ", ".join(repr(scheme.example) for scheme in SCHEMES.values())
    return ConfigError(
        f"{_shown(url)!r} is not the URL of a transport{meant}",
        hint=f"A transport is one of: {known}.",
    )


def _shown(url: str) -> str:
    """Return a URL without its password, if it has one."""
    before, at, host = url.rpartition("@")
    scheme, slashes, user = before.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}:***@{host}" if at and slashes else url
