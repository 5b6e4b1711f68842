"""Whether an engine can keep what a program's contracts promise. Asked before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.declare.target import Handler
from posthouse.errors import NotDurableError
from posthouse.message.message import Mode

if TYPE_CHECKING:
    from posthouse.contracts.transport import Features
    from posthouse.declare.service import Service
    from posthouse.declare.target import Subscription
    from posthouse.errors import PosthouseError
    from posthouse.runtime.settings import Settings


def mode_of(target: Handler | Subscription) -> Mode:
    """Return what a delivery to a target promises."""
    return target.operation.promise if isinstance(target, Handler) else target.event.promise


def needs_store(service: Service) -> bool:
    """Say whether a service cannot be served without a store of its own."""
    targets = (*service.operations.values(), *service.subscriptions.values())
    return (
        bool(service.schema or service.reply_handlers or service.ack_handlers)
        or any(mode_of(target) is Mode.JOURNALED for target in targets)
        or any(event.promise is Mode.JOURNALED for event in service.events.values())
    )


def broken_promise(target: Handler | Subscription, *, features: Features, settings: Settings) -> PosthouseError | None:
    """Return the error that says why a target cannot be served here as its contract promises; None if it can."""
    match mode_of(target):
        case Mode.JOURNALED if not features.durable and settings.env != "test":
            return NotDurableError(
                f"{target.name} is journaled, and {settings.transport!r} keeps nothing when its process ends"
            )
        case Mode.QUEUED if not features.durable and settings.env != "test":
            return NotDurableError(
                f"{target.name} is queued, and {settings.transport!r} keeps nothing when its process ends"
            )
        case _:
            return None
