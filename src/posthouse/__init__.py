"""Asynchronous communication between services: the public face.

Four things are declared (Service, Operation, Event, Reject), two doors carry the verbs (Context in a
handler, Client outside), two functions start things (connect, run). Nothing else here: what runs them
is imported when it is first asked for, so that importing a program stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.clock import Duration
from posthouse.declare.operation import Event, Mode, Operation, Priority
from posthouse.declare.service import Service
from posthouse.declare.values import Gap, HttpRequest, Principal, Reply
from posthouse.errors import (
    CallCanceledError,
    ConfigError,
    ContractError,
    DeniedError,
    ExpiredError,
    FailedError,
    NotDoneError,
    NotServedError,
    NotStoredError,
    OutcomeUnknownError,
    PendingError,
    PosthouseError,
    QueueFullError,
    Reject,
    Retry,
    UnavailableError,
    UsageError,
)

if TYPE_CHECKING:
    from posthouse.runtime.client import Client
    from posthouse.runtime.context import Context, Transaction
    from posthouse.runtime.start import connect, run
else:
    _LATER = {
        "Client": "posthouse.runtime.client",
        "Context": "posthouse.runtime.context",
        "Transaction": "posthouse.runtime.context",
        "connect": "posthouse.runtime.start",
        "run": "posthouse.runtime.start",
    }

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module 'posthouse' has no attribute {name!r}")
        from importlib import import_module

        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found


__all__ = [
    "CallCanceledError",
    "Client",
    "ConfigError",
    "Context",
    "ContractError",
    "DeniedError",
    "Duration",
    "Event",
    "ExpiredError",
    "FailedError",
    "Gap",
    "HttpRequest",
    "Mode",
    "NotDoneError",
    "NotServedError",
    "NotStoredError",
    "Operation",
    "OutcomeUnknownError",
    "PendingError",
    "PosthouseError",
    "Principal",
    "Priority",
    "QueueFullError",
    "Reject",
    "Reply",
    "Retry",
    "Service",
    "Transaction",
    "UnavailableError",
    "UsageError",
    "connect",
    "run",
]
