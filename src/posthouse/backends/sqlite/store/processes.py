"""Which process this is, and whether another one is still there.

A pid alone names a process only for as long as it lives; with the moment of its start, the namespace
that it is a number in, and the boot of the machine it names it for ever. Where the system does not tell
these (it is not Linux), nobody is judged, and only leases end.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final, NamedTuple

_STARTED: Final = 19
"""Where the start stands in /proc/PID/stat behind the name: field 22, see proc_pid_stat(5)."""

_LONGEST: Final = 4096

_ENDED: Final = frozenset({"Z", "X", "x"})


class Process(NamedTuple):
    """What names a process; all 0 where it cannot be told."""

    pid: int = 0
    started: int = 0
    namespace: int = 0
    boot: str = ""


def this_process() -> Process:
    """Return what names this process."""
    found = _stat(os.getpid())
    namespace, boot = _here()
    if found is None or not namespace or not boot:
        return Process()
    return Process(os.getpid(), found[1], namespace, boot)


def is_gone(process: Process) -> bool:
    """Say whether a process is known to have ended; False when that cannot be told from here."""
    if not process.pid or (process.namespace, process.boot) != _here():
        return False
    found = _stat(process.pid)
    return found is None or found[0] in _ENDED or found[1] != process.started


@cache
def _here() -> tuple[int, str]:
    """Return our pid namespace and the boot of the machine; they stay the same for as long as we live."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0, ""
    return namespace, _read("/proc/sys/kernel/random/boot_id").strip()


def machine_id() -> str:
    """Return what names this machine; empty where nothing does."""
    return _read("/etc/machine-id").strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """Return the state and the start of a process, or None when there is none."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[_STARTED])


def _read(path: str) -> str:
    """Return what a small file holds; nothing when there is none. Those in /proc are no files, and never block."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return os.read(file, _LONGEST).decode("ascii", "replace")
    except OSError:  # the process ended in this moment
        return ""
    finally:
        os.close(file)
