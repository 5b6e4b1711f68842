"""How it runs here: what `posthouse.toml`, the environment and the flags say.

The order is flag > POSTHOUSE_* variable > posthouse.toml > the number in the code > default. A key
that nobody knows is an error with a suggestion, wherever it stands: a typing slip must not become a
default. What a program declares (modes, types, routes) is no setting. None means "not said": the
number in the code stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_origin

import msgspec

from posthouse.contracts.transport import Overflow
from posthouse.declare.route import same_requests
from posthouse.errors import ConfigError
from posthouse.message.names import check_part
from posthouse.runtime.layers import Count, Lasts, Size, check, nearest, overlay, struct_of

_Row = TypeVar("_Row")

Env: TypeAlias = Literal["dev", "test", "prod"]

FILE_NAME: Final = "posthouse.toml"
DATA_NAME: Final = ".posthouse"
PREFIX: Final = "POSTHOUSE_"
FILE_VARIABLE: Final = "POSTHOUSE_CONFIG"

_ROUTE: Final = re.compile(r"[A-Z]+ /\S*")
# What is no setting: what Kubernetes puts into every container for a Service called "posthouse" or "posthouse-...",
# and what our own tests and benchmarks read, whose programs see it too.
_NO_SETTING: Final = re.compile(
    r"(.*_)?SERVICE_HOST|(.*_)?SERVICE_PORT(_\w+)?|(.*_)?PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?|REQUIRE_ENGINES|BENCH_\w+"
)


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[services.NAME]`: how one service runs; None leaves the number in the code.

    Attributes:
        capacity: most messages in each of its queues.
        capacity_bytes: most bytes in each of its queues.
        overflow: what a full queue does.
        concurrency: handlers of an instance at work at once.
    """

    capacity: Count | None = None
    capacity_bytes: Size | None = None
    overflow: Overflow | None = None
    concurrency: Count | None = None


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[gateway]`: the HTTP door.

    Attributes:
        bind: "HOST:PORT" that it listens on.
        wait: how long an HTTP request waits for its reply before it is answered 202.
        body_limit: most bytes of a body.
        depth_limit: deepest nesting of a JSON body.
        header_limit: most bytes of all headers.
        header_count: most headers.
        body_timeout: how long a body may take to arrive.
        hosts: names that the Host header may say, beside the gateway's own address.
        keep: most requests, and most idempotency keys, that are remembered of routes that are not journaled; what is
            journaled lies in the gateway's store.
        keep_for: how long they are remembered.
        keep_bytes: most bytes of all replies that are kept for them; the oldest are let go first.
    """

    bind: str = "127.0.0.1:8080"
    wait: Lasts = 5.0
    body_limit: Size = 1 << 20
    depth_limit: Count = 32
    header_limit: Size = 16 << 10
    header_count: Count = 100
    body_timeout: Lasts = 30.0
    hosts: list[str] = []
    keep: Count = 10_000
    keep_for: Lasts = 3600.0
    keep_bytes: Size = 64 << 20


class SignatureSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`signature` of a route: how an incoming webhook proves where it comes from.

    Attributes:
        header: the header that holds the signature, "X-Hub-Signature-256".
        prefix: what stands before the hex digits, "sha256=".
        secret: what both sides know: the text itself, "env:VARIABLE" or "file:PATH".
        secret_env: the variable that holds it; the same as `secret = "env:VARIABLE"`.
        algorithm: of the HMAC.
    """

    header: str
    prefix: str = ""
    secret: str = ""
    secret_env: str = ""
    algorithm: Literal["sha256", "sha1", "sha512"] = "sha256"

    def __repr__(self) -> str:
        """Show everything but the secret."""
        return f"SignatureSettings(header={self.header!r}, algorithm={self.algorithm!r}, secret=...)"


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[routes."POST /path"]`: what the gateway does beyond the contract.

    Attributes:
        signature: checked before anything is stored.
        idempotency: the header that holds the idempotency key.
        wait: instead of the gateway's.
        body_limit: instead of the gateway's.
        hide: the gateway does not serve it.
    """

    signature: SignatureSettings | None = None
    idempotency: str = "idempotency-key"
    wait: Lasts | None = None
    body_limit: Size | None = None
    hide: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set.

    Attributes:
        env: where this runs; "prod" has fewer defaults, "test" may use engines that keep nothing.
        data: the data directory, absolute.
        transport: the URL of what carries messages.
        store: the URL of what keeps the stores of the services; empty for the place of the transport, where that
            is the data directory or memory, and the data directory otherwise.
        grace: how long a drain waits for handlers that are at work.
        services: by the name of the service.
        gateway: the HTTP door.
        routes: by method and path, "POST /github".
    """

    env: Env = "dev"
    data: str = ""
    transport: str = ""
    store: str = ""
    grace: Lasts = 30.0
    services: dict[str, ServiceSettings] = {}
    gateway: GatewaySettings = GatewaySettings()
    routes: dict[str, RouteSettings] = {}

    @property
    def stores(self) -> str:
        """The URL of what keeps the stores of the services."""
        if self.store:
            return self.store
        scheme = self.transport.partition(":")[0]
        return self.transport if scheme in {"sqlite", "memory"} else f"sqlite:{self.data}"

    def service(self, name: str) -> ServiceSettings:
        """Return what is said of one service."""
        return self.services.get(name) or ServiceSettings()

    def route(self, route: str) -> RouteSettings:
        """Return what is said of one route, "POST /github"."""
        return row_of(self.routes, route) or RouteSettings()


def row_of(rows: Mapping[str, _Row], route: str) -> _Row | None:
    """Return the row of a route; None when there is none.

    What the fields in its path are called does not matter: a signature that is asked of
    "POST /hooks/{id}" must not go unchecked because the service says "POST /hooks/{name}".
    """
    if route in rows:
        return rows[route]
    return next((row for written, row in rows.items() if same_requests(written, route)), None)


def load(
    config: Path | Mapping[str, Any] | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings that hold here.

    Args:
        config: a file, or what such a file would hold; without it POSTHOUSE_CONFIG names the file, and without
            that posthouse.toml is looked for in the working directory and in those above it.
        overrides: what flags and arguments said, nested as the file is; None is "not said".
        environ: the environment.

    Raises:
        ConfigError: something said cannot be; the error names the place and the key.
    """
    here = beside = _here()
    layers = list[dict[str, Any]]()
    if not isinstance(config, Mapping):
        file = in_force(config, environ=environ)
        if file is not None:
            beside = file.absolute().parent
            layers.append(_placed(check(_read(file), Settings, str(file)), beside))
    else:
        layers.append(_placed(check(config, Settings, "config"), beside))
    layers.append(_placed(_from_environment(environ), here))
    layers.append(_placed(check(overrides or {}, Settings, "an option"), here))
    said: dict[str, Any] = {}
    for layer in layers:
        if "data" in layer and str(said.get("transport", "")).startswith("sqlite:"):
            said["transport"] = f"sqlite:{layer['data']}"  # `--data` moves all that lies in files
        said = overlay(said, layer)
    return _finished(said, beside)


def in_force(config: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file that is read: the one that is named, else the nearest posthouse.toml; None for none.

    Raises:
        ConfigError: the working directory, or one above it, is gone or may not be looked into.
    """
    return config or _named(environ) or find()


def find(start: Path | None = None) -> Path | None:
    """Return the posthouse.toml of this directory, or of the nearest one above it.

    Raises:
        ConfigError: one of these directories is gone, or may not be looked into.
    """
    start = start or _here()
    try:
        return next((folder / FILE_NAME for folder in (start, *start.parents) if (folder / FILE_NAME).is_file()), None)
    except OSError as error:
        raise ConfigError(
            f"{error.filename} cannot be looked for: {error.strerror}",
            hint="Go to a directory that this user may read, or name the file with --config.",
        ) from error


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError("the working directory is gone, or out of reach", hint="Go to another one: cd /") from error


def _named(environ: Mapping[str, str]) -> Path | None:
    file = environ.get(FILE_VARIABLE, "")
    return Path(file) if file else None


def _read(file: Path) -> dict[str, Any]:
    import tomllib  # only where a file is read

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}", hint="Is the path right, and may you read it?"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None


def _variables() -> dict[str, tuple[str, ...]]:
    """Return each variable that is read, and the path of its key."""

    def leaves(kind: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for field in msgspec.structs.fields(kind):
            here = (*path, field.encode_name)
            value: Any = field.type
            if struct := struct_of(value):
                yield from leaves(struct, here)
            elif get_origin(value) is not dict:  # services and routes have names of their own
                yield here

    return {PREFIX + "_".join(path).upper(): path for path in leaves(Settings, ())}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    known = _variables()
    layer: dict[str, Any] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name == FILE_VARIABLE:
            continue
        if name in known:
            nested: Any = value
            for key in reversed(known[name]):
                nested = {key: nested}
            layer = overlay(layer, check(nested, Settings, f"variable {name}", text=True))
        elif not _NO_SETTING.fullmatch(name.removeprefix(PREFIX)):
            raise ConfigError(
                f"the environment has an unknown variable {name}{nearest(name, [*known, FILE_VARIABLE])}",
                hint=f"Unset it. Known: {', '.join(sorted([*known, FILE_VARIABLE]))}.",
            )
    return layer


def _placed(layer: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the layer with its paths made absolute: relative ones belong to where they were said."""
    placed = dict(layer)
    if "data" in placed:
        if not placed["data"]:  # "--data $DIR" with a variable that is not set: not the working directory
            raise ConfigError("the data directory has an empty name", hint="Name a directory, or leave it out.")
        placed["data"] = str((folder / Path(placed["data"]).expanduser()).absolute())
    url = placed.get("transport", "")
    if "transport" in placed and (":" not in url or url == "sqlite:"):
        raise ConfigError(
            f"transport {url!r} names no directory" if url == "sqlite:" else f"transport {url!r} is not a URL",
            hint="Write sqlite:DIRECTORY, or leave it out to keep everything in the data directory.",
        )
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest and not rest.startswith("/"):
        placed["transport"] = f"sqlite:{(folder / Path(rest).expanduser()).absolute()}"
    for row in placed.get("routes", {}).values():
        kind, _, file = row.get("signature", {}).get("secret", "").partition(":")
        if kind == "file" and file:
            row["signature"]["secret"] = f"file:{(folder / Path(file).expanduser()).absolute()}"
    return placed


def _finished(said: dict[str, Any], beside: Path) -> Settings:
    if said.get("env") == "prod" and "transport" not in said:
        raise ConfigError(
            'env is "prod", and no transport is named: what must not be lost has no default place',
            hint=f'Say transport = "sqlite:/var/lib/NAME" in {FILE_NAME}, or set {PREFIX}TRANSPORT.',
        )
    said.setdefault("data", str(beside / DATA_NAME))
    said.setdefault("transport", f"sqlite:{said['data']}")
    for name in said.get("services", {}):
        check_part(name, "service")
    routes: dict[str, Any] = said.get("routes", {})
    for route, row in routes.items():
        if not _ROUTE.fullmatch(route):
            raise ConfigError(f'routes."{route}" is not a route; write it as "POST /path"')
        if twice := [other for other in routes if other != route and same_requests(other, route)]:
            raise ConfigError(f'routes."{route}" and routes."{twice[0]}" are the same route; put all of it into one')
        if "signature" in row:
            _point_at_secret(row["signature"], route)
    try:
        return msgspec.convert(said, Settings)
    except msgspec.ValidationError as error:  # a key that must be there is missing
        raise ConfigError(str(error).replace("`", "").replace("$.", "")) from None


def _point_at_secret(signature: dict[str, Any], route: str) -> None:
    """Say where the secret is; the gateway reads it, so that whoever only looks at queues needs it not."""
    if not signature.get("header"):
        raise ConfigError(f'routes."{route}".signature says no `header`: where is the signature to be found?')
    if not signature.get("secret"):
        if not signature.get("secret_env"):  # checked against nothing it would let everyone in
            raise ConfigError(f'routes."{route}".signature has no secret: it has neither `secret` nor `secret_env`')
        signature["secret"] = f"env:{signature['secret_env']}"
