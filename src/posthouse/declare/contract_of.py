"""From a Service to the contract that it announces, which the registry keeps.

Made once, when a host starts. It holds schemas, not types: those who read it may be other programs.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from posthouse.contracts.registry import Contract, EventRecord, OperationRecord, SubscriptionRecord
from posthouse.declare.schema_of import schema
from posthouse.declare.values import HttpRequest
from posthouse.declare.wrong import wrong

if TYPE_CHECKING:
    from posthouse.declare.service import Service
    from posthouse.declare.target import Handler


def contract_of(service: Service) -> Contract:
    """Return what a service offers, tells and hears; its version is a digest of the rest.

    What hears of outcomes and of acks is no part of it: nobody else needs to know.

    Raises:
        DeclarationError: see `check_acks`.
    """
    check_acks(service)
    operations = tuple(_operation(handler) for handler in service.operations.values())
    events = tuple(
        EventRecord(
            name=event.name, mode=event.promise, data=schema(event.data), key=event.key or "", retain=event.retain
        )
        for event in service.events.values()
    )
    subscriptions = tuple(
        SubscriptionRecord(name=heard.name, topic=heard.event.name, mode=heard.event.promise)
        for heard in service.subscriptions.values()
    )
    digest = hashlib.sha256(msgspec.msgpack.encode((operations, events, subscriptions), order="sorted"))
    return Contract(
        service=service.name,
        version=digest.hexdigest()[:12],
        operations=operations,
        events=events,
        subscriptions=subscriptions,
    )


def check_acks(service: Service) -> None:
    """See to it that a service answers what it wants to hear the acks of, now that all is declared.

    Raises:
        DeclarationError: an on_ack names an operation without a handler here, or with another contract.
    """
    for heard in service.ack_handlers.values():
        name, asked = heard.operation.name, heard.operation
        answered = next((each.operation for each in service.operations.values() if each.name == name), None)
        of = f"{service.name}.on_ack({name!r})"
        if answered is None:
            raise wrong(
                f"{of}: {service.name!r} has no handler for it", "declare one, or leave on_ack out", where=heard.place
            )
        if (asked.request, asked.reply, asked.mode) != (answered.request, answered.reply, answered.mode):
            do = "give on_ack what the handler's decorator returned, or the contract that both share"
            raise wrong(f"{of}: its handler has another contract, {answered!r}", do, where=heard.place)


def _operation(handler: Handler) -> OperationRecord:
    operation = handler.operation
    return OperationRecord(
        name=operation.name,
        mode=operation.promise,
        request=schema(operation.request),
        reply=schema(operation.reply),
        http=handler.http,
        status=handler.status,
        whole_request=operation.request is HttpRequest,
        key=operation.key or "",
        rejects=tuple((kind.code, kind.status) for kind in operation.rejects),
        exhausted=handler.run.exhausted or "",
    )
