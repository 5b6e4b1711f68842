"""The engines: finds a backend by its URL, and imports it when it is first asked for.

To add a backend is to add a row to SCHEMES: its module offers
`backend(location, *, peer, clock) -> (transport, registry)`. A kind of store is a row of STORES: its module
offers a function that returns one. No backend imports another.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from posthouse.errors import ConfigError
from posthouse.message.names import check_part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from posthouse.clock import Clock
    from posthouse.contracts.registry import Registry
    from posthouse.contracts.store import Store
    from posthouse.contracts.transport import Transport

__all__ = ["SCHEMES", "STORES", "Scheme", "StoreScheme", "open_backend", "open_store", "store_is_there"]


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


class StoreScheme(NamedTuple):
    """One kind of URL of a store.

    Attributes:
        module: where it is.
        maker: the function there that returns one.
        finder: the function there that says whether one is there already.
        example: a URL of this kind, for errors.
        extra: the extra of our package that brings what the module imports; empty when nothing is missing.
    """

    module: str
    maker: str
    finder: str
    example: str
    extra: str = ""


STORES: Final[Mapping[str, StoreScheme]] = {
    "memory": StoreScheme("posthouse.backends.sqlite.store", "memory_store", "memory_store_is_there", "memory:"),
    "sqlite": StoreScheme("posthouse.backends.sqlite.store", "file_store", "file_store_is_there", "sqlite:.posthouse"),
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
        raise _unknown(url, "transport", {name: scheme.example for name, scheme in SCHEMES.items()})
    module = cast("_Module", _module(scheme.module, name, scheme.extra))
    return module.backend(location, peer=peer, clock=clock)


def open_store(
    url: str, *, service: str, instance: str, clock: Clock, new_id: Callable[[], str] | None = None
) -> Store:
    """Return the store of a service at a URL; it is not open yet.

    Args:
        url: `SCHEME:LOCATION`; for SQLite the location is the data directory, for memory a name.
        service: whose store it is; all of its instances open the same.
        instance: who opens it.
        clock: what time it is.
        new_id: 128 bits in hex that nobody else has; it names a store that is made. Chance without it.

    Raises:
        ConfigError: nothing keeps URLs of this kind, or what keeps them is not installed.
        IllegalNameError: this is no name of a service.
    """
    name, colon, location = url.partition(":")
    scheme = STORES.get(name.lower()) if colon else None
    if scheme is None:
        raise _unknown(url, "store", {name: scheme.example for name, scheme in STORES.items()})
    check_part(service, "service")
    make: Callable[..., Store] = getattr(_module(scheme.module, name, scheme.extra), scheme.maker)
    return make(location, service=service, instance=instance, clock=clock, new_id=new_id)


def store_is_there(url: str, *, service: str) -> bool:
    """Say whether a service has a store at a URL already.

    Raises:
        ConfigError: nothing keeps URLs of this kind, or what keeps them is not installed.
    """
    name, colon, location = url.partition(":")
    scheme = STORES.get(name.lower()) if colon else None
    if scheme is None:
        raise _unknown(url, "store", {name: scheme.example for name, scheme in STORES.items()})
    is_there: Callable[..., bool] = getattr(_module(scheme.module, name, scheme.extra), scheme.finder)
    return is_there(location, service=service)


def _module(module: str, name: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").partition(".")[0] == "posthouse":
            raise
        raise ConfigError(
            f"{name}: URLs need the package {error.name!r}, which is not installed",
            hint=f"pip install 'posthouse[{extra}]'",
        ) from error


def _unknown(url: str, what: str, examples: Mapping[str, str]) -> ConfigError:
    name = url.partition(":")[0]
    close = difflib.get_close_matches(name.lower(), examples, n=1)
    meant = f"; did you mean {examples[close[0]]!r}?" if close else ""
    known = ", ".join(map(repr, examples.values()))
    return ConfigError(
        f"{_shown(url)!r} is not the URL of a {what}{meant}",
        hint=f"A {what} is one of: {known}.",
    )


def _shown(url: str) -> str:
    """Return a URL without its password, if it has one."""
    before, at, host = url.rpartition("@")
    scheme, slashes, user = before.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}:***@{host}" if at and slashes else url
