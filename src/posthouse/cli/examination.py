"""What `posthouse doctor` looks at: one function for each thing, a result for each.

It changes nothing but a file of its own in the data directory (or, where there is none yet, beside
its place), which is gone when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from posthouse.cli.output import moment, size
from posthouse.cli.why import count
from posthouse.errors import PosthouseError

if TYPE_CHECKING:
    from posthouse.cli.options import Options
    from posthouse.runtime.settings import Settings

LEAST_FREE: Final = 256 << 20
SLOW_FLUSH: Final = 0.020
_FLUSHES: Final = 15
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs", "fuse.glusterfs"}
)


class Verdict(enum.StrEnum):
    """How it stands with one thing."""

    GOOD = "ok"
    CARE = "care"
    BAD = "bad"


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was seen of one thing.

    Attributes:
        name: the thing.
        verdict: how it stands.
        text: what was seen.
        hint: what to do.
    """

    name: str
    verdict: Verdict
    text: str
    hint: str = ""


def examine(options: Options) -> Iterator[Result]:
    """Look at one thing after the other."""
    yield _python()
    yield _sqlite()
    try:
        settings = options.settings()
    except PosthouseError as error:
        yield Result("settings", Verdict.BAD, f"{error} ({error.code})", error.hint)
        return
    yield _settings(options, settings)
    yield _directory(Path(settings.data))
    place = _nearest(Path(settings.data))
    yield _disk(place)
    if (system := _file_system(place)) is not None:
        yield system
    yield from _flush_and_clock(place)
    yield _transport(settings)
    yield from _stores(settings)
    yield from _events(settings)


def _python() -> Result:
    fast = "with uvloop" if _has("uvloop") else "without uvloop (pip install 'posthouse[fast]' makes it faster)"
    return Result("python", Verdict.GOOD, f"{sys.version.split()[0]} at {sys.executable}, {fast}")


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _sqlite() -> Result:
    try:
        import apsw
    except ImportError as error:
        return Result("sqlite", Verdict.BAD, f"apsw cannot be imported: {error}", "pip install apsw")
    return Result("sqlite", Verdict.GOOD, f"{apsw.sqlite_lib_version()}, through apsw {apsw.apsw_version()}")


def _settings(options: Options, settings: Settings) -> Result:
    from posthouse.runtime.settings import find

    file = options.config or find() or "no posthouse.toml here or above, all defaults"
    return Result("settings", Verdict.GOOD, f"{file}; env {settings.env}, transport {settings.transport}")


def _directory(data: Path) -> Result:
    try:
        found = data.stat() if data.exists() else None
    except OSError as error:
        hint = "Run this as the user whose it is, or name another directory with --data."
        return Result("data directory", Verdict.BAD, f"{data} cannot be looked into: {error.strerror}", hint)
    if found is None:
        parent = _nearest(data)
        if os.access(parent, os.W_OK | os.X_OK):
            return Result("data directory", Verdict.GOOD, f"{data} is not there yet, and can be made")
        return Result(
            "data directory",
            Verdict.BAD,
            f"{data} is not there, and {parent} may not be written",
            "Give this user the right to write there, or name another directory with --data.",
        )
    if not data.is_dir():
        return Result("data directory", Verdict.BAD, f"{data} is not a directory", "Move it away, or use --data.")
    mode = found.st_mode & 0o777
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        return Result(
            "data directory",
            Verdict.BAD,
            f"{data} may not be read and written by user {os.geteuid()}",
            f"chown it: {data}",
        )
    if mode & 0o077:
        return Result(
            "data directory", Verdict.CARE, f"{data} has mode {mode:04o}: others may look into it", f"chmod 700 {data}"
        )
    return Result("data directory", Verdict.GOOD, f"{data}, mode {mode:04o}, holds {size(_held(data))}")


def _held(folder: Path) -> int:
    held = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone since it was listed: a system that runs makes and removes files
            held += file.lstat().st_size if file.is_file() else 0
    return held


def _disk(place: Path) -> Result:
    usage = shutil.disk_usage(place)
    text = f"{size(usage.free)} free of {size(usage.total)}"
    if usage.free < LEAST_FREE:
        return Result("disk", Verdict.CARE, text, "Make room: when it is full, nothing more is stored.")
    return Result("disk", Verdict.GOOD, text)


def _file_system(place: Path) -> Result | None:
    """Say which file system it is, where that can be read: SQLite's shared memory does not cross machines."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    best = ("", "")
    for line in mounts.splitlines():
        _, at, kind, *_ = line.split()
        at = at.replace("\\040", " ")
        if place.is_relative_to(at) and len(at) >= len(best[0]):
            best = (at, kind)
    if best[1] in _NETWORK:
        return Result(
            "file system",
            Verdict.CARE,
            f"{best[1]} at {best[0]}: SQLite's shared memory and locks do not work across machines there",
            "Put the data directory on a local disk, and let one machine alone use it.",
        )
    return Result("file system", Verdict.GOOD, f"{best[1]} at {best[0]}") if best[1] else None


def _flush_and_clock(place: Path) -> Iterator[Result]:
    took: list[float] = []
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".posthouse-doctor-") as file:
            for _ in range(_FLUSHES):
                file.write(b"x" * 4096)
                file.flush()
                began = time.perf_counter()
                os.fsync(file.fileno())
                took.append(time.perf_counter() - began)
            written, now = os.fstat(file.fileno()).st_mtime, time.time()
    except OSError as error:
        yield Result(
            "flush", Verdict.BAD, f"nothing can be written to {place}: {error.strerror}", "See the data directory."
        )
        return
    middle = statistics.median(took)
    text = f"{middle * 1000:.2f} ms to flush 4 KiB (slowest of {_FLUSHES}: {max(took) * 1000:.2f} ms)"
    if middle > SLOW_FLUSH:
        yield Result("flush", Verdict.CARE, text, "A slow disk: each stored batch waits for it. A local SSD is faster.")
    else:
        yield Result("flush", Verdict.GOOD, text)
    if abs(now - written) > 2 or now < 1_700_000_000:
        text = f"the clock says {time.ctime(now)}, the disk {time.ctime(written)}"
        yield Result("clock", Verdict.CARE, text, "Set the clock (NTP): leases and deadlines are compared with it.")
    else:
        yield Result("clock", Verdict.GOOD, f"{time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(now))}")


def _transport(settings: Settings) -> Result:
    """Open it as a service would, if it is there already, and say what it can do."""
    from posthouse.cli.house import is_directory

    scheme, _, place = settings.transport.partition(":")
    try:
        if scheme == "sqlite" and not is_directory(Path(place)):
            text = f"{settings.transport} is not there yet; the first service makes it"
            return Result("transport", Verdict.GOOD, text)
        text = asyncio.run(_opened(settings))
    except PosthouseError as error:
        return Result("transport", Verdict.BAD, f"{error} ({error.code})", error.hint)
    return Result("transport", Verdict.GOOD, text)


async def _opened(settings: Settings) -> str:
    from posthouse.cli.house import opened

    async with opened(settings) as host:
        features = host.transport.features
        lacking = [
            name
            for name in ("durable", "direct", "delay", "capacity", "dead_letters", "inspection", "shared")
            if not getattr(features, name)
        ]
        instances = [instance for instance in host.directory.all_instances if instance.peer != host.peer]
        text = f"opened; {len(host.directory.contracts)} services announced, {len(instances)} instances there"
        if lacking:
            text += f"; it lacks: {', '.join(lacking)}"
        for name, how in features.emulated.items():
            text += f"; {name} is emulated: {how}"
        return text


def _stores(settings: Settings) -> list[Result]:
    """Look into each store: whether it is whole, which it is, and how far back it remembers."""
    from posthouse.cli.stores import services_with_stores

    try:
        services = services_with_stores(settings)
    except PosthouseError as error:
        return [Result("stores", Verdict.CARE, f"{error} ({error.code})", error.hint)]
    return asyncio.run(_all_stores(settings, services)) if services else []


async def _all_stores(settings: Settings, services: Sequence[str]) -> list[Result]:
    return [await _store(settings, service) for service in services]


async def _store(settings: Settings, service: str) -> Result:
    from posthouse.backends import open_store
    from posthouse.clock import SystemClock

    name, clock = f"store {service}", SystemClock()
    store = open_store(settings.stores, service=service, instance="doctor", clock=clock)
    try:
        await store.look()
        try:
            damage = await store.read(lambda books: books.damage())
            lives, since, counts = await store.read(lambda books: (books.lives(), books.kept_since(), books.counts()))
        finally:
            await store.close()
    except PosthouseError as error:
        return Result(name, Verdict.BAD, f"{error} ({error.code})", error.hint)
    identity = store.identity
    text = f"{identity.id[:8]} epoch {identity.epoch}"
    if len(lives) > 1:
        text += f" ({lives[-1].reason} {moment(lives[-1].at)})"
    if damage:
        hint = "Keep the file, and restore the store from a backup: what it holds is nowhere else."
        return Result(name, Verdict.BAD, f"{text}; damaged: {'; '.join(damage)}", hint)
    text += f", {size(counts.bytes)}, whole"
    text += f", {count(counts.dead, 'dead letter')}" if counts.dead else ""
    if since is not None:
        text += f"; can ask again of a restored service what it has asked since {moment(since)}"
    if store.is_elsewhere:
        hint = (
            "If it was moved, or is a backup put back: nothing, when its service starts it begins a new life and asks"
            " again what is open. If it is a copy beside an original that goes on, remove it."
        )
        return Result(name, Verdict.CARE, f"{text}; it lies elsewhere than when it was last open", hint)
    return Result(name, Verdict.GOOD, text)


def _events(settings: Settings) -> list[Result]:
    """Look at what subscriptions are behind, and at what publishers keep for them."""
    from posthouse.cli.house import is_directory
    from posthouse.cli.stores import services_with_stores

    scheme, _, place = settings.transport.partition(":")
    try:
        if scheme == "memory" or (scheme == "sqlite" and not is_directory(Path(place))):
            return []
        return asyncio.run(_all_events(settings)) if services_with_stores(settings) else []
    except PosthouseError:  # the transport or the stores: that is said above
        return []


async def _all_events(settings: Settings) -> list[Result]:
    from posthouse.cli import feeds, streams
    from posthouse.cli.event_findings import of_streams, of_subscriptions
    from posthouse.cli.house import opened
    from posthouse.cli.stores import looked_at

    async with opened(settings) as host, looked_at(host) as stores:
        told = [row for store in stores.by_service.values() for row in await streams.rows_of(stores, store)]
        heard = [row for row in await feeds.subscriptions(stores) if row.mode == "journaled"]
        now = stores.clock.now()
    found = [
        *(Result(f"events {what}", Verdict.CARE, text, hint) for what, text, hint in of_streams(told)),
        *(Result(f"events {what}", Verdict.CARE, text, hint) for what, text, hint in of_subscriptions(heard, now)),
    ]
    if found or not (told or heard):
        return found
    return [Result("events", Verdict.GOOD, f"{count(len(told), 'stream')}, {count(len(heard), 'subscription')}")]


def _nearest(path: Path) -> Path:
    """Return the path, or the nearest above it that is there."""
    while not os.path.isdir(path) and path != path.parent:  # unlike Path.is_dir, false for what may not be looked into
        path = path.parent
    return path
