"""What is wrong between services, told before anything runs: rules over declarations and contracts.

A program is compared with itself and with what the registry knows of others. Which operations a
handler uses is read from its code: the names that it mentions. So a finding is about what stands
there, not about what a run would do. Printing does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from posthouse.backends import open_backend
from posthouse.clock import SystemClock
from posthouse.declare.operation import Event, Operation
from posthouse.declare.route import same_requests
from posthouse.declare.schema_of import schema
from posthouse.runtime.layers import nearest
from posthouse.runtime.promises import broken_promise

if TYPE_CHECKING:
    from posthouse.contracts.registry import Contract, EventRecord, OperationRecord
    from posthouse.declare.service import Service
    from posthouse.declare.target import Handler, Subscription, Target
    from posthouse.runtime.settings import Settings


class Finding(msgspec.Struct, frozen=True):
    """One thing that will not work.

    Attributes:
        code: stable, for scripts.
        what: one sentence.
        where: "app.py:12", or the key of a setting.
    """

    code: str
    what: str
    where: str = ""


class World:
    """All contracts: those of the program, and of others those that the registry knows."""

    def __init__(self, own: Sequence[Contract], announced: Iterable[Contract]) -> None:
        self.own = own
        names = {contract.service for contract in own}
        self.before = {contract.service: contract for contract in announced if contract.service in names}
        self.others = [contract for contract in announced if contract.service not in names]
        self.all = [*own, *self.others]
        self.operations: Mapping[str, OperationRecord] = {op.name: op for each in self.all for op in each.operations}
        self.events: Mapping[str, EventRecord] = {event.name: event for each in self.all for event in each.events}


def findings(services: Sequence[Service], world: World, settings: Settings) -> list[Finding]:
    """Return all that is wrong, in the order of the program."""
    found: list[Finding] = []
    for service in services:
        for target in (*service.operations.values(), *service.subscriptions.values()):
            found += _promises(target, settings)
            found += _uses(target, world)
        for subscription in service.subscriptions.values():
            found += _hears(subscription.event, subscription, world)
    return [*found, *_routes(services, world), *_changes(world), *_settings(settings, world)]


def used_by(function: Callable[..., Any]) -> list[Operation[Any, Any] | Event[Any]]:
    """Return the operations and events that a function mentions, by name or as `module.name`."""
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        function = inner
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None:
        return []
    mentioned = list(dict.fromkeys(_names(code)))
    within: dict[str, Any] = dict(getattr(function, "__globals__", {}))
    for name, cell in zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=False):
        try:
            within[name] = cell.cell_contents
        except ValueError:
            continue  # a name of an outer function that it never filled
    values = [within.get(name) for name in mentioned]
    for module in [value for value in values if isinstance(value, ModuleType)]:
        values += [getattr(module, name, None) for name in mentioned]
    return [value for value in values if isinstance(value, Operation | Event)]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _promises(target: Handler | Subscription, settings: Settings) -> Iterator[Finding]:
    transport, _registry = open_backend(settings.transport, peer="check", clock=SystemClock())  # connects to nothing
    error = broken_promise(target, features=transport.features, settings=settings)
    if error is not None:
        yield Finding(error.code, str(error), target.place)


def _uses(target: Target, world: World) -> Iterator[Finding]:
    for used in used_by(target.function):
        if isinstance(used, Event):
            continue
        record = world.operations.get(used.name)
        if record is None:
            meant = nearest(used.name, world.operations)
            yield Finding(
                "service.unknown", f"{target.name} asks {used.name}, which nobody serves{meant}", target.place
            )
        elif record.mode is not used.promise:
            modes = f"{used.promise.name.lower()} here and {record.mode.name.lower()} for its service"
            yield Finding("contract.mismatch", f"{target.name} asks {used.name}, which is {modes}", target.place)
        elif record.request != schema(used.request) or record.reply != schema(used.reply):
            yield Finding(
                "contract.mismatch",
                f"{target.name} asks {used.name} with other types than its service has",
                target.place,
            )


def _hears(event: Event[Any], target: Target, world: World) -> Iterator[Finding]:
    record = world.events.get(event.name)
    if record is None:
        meant = nearest(event.name, world.events)
        yield Finding("event.unknown", f"{target.name} hears {event.name}, which nobody publishes{meant}", target.place)
    elif record.mode is not event.promise or record.data != schema(event.data):
        yield Finding(
            "contract.mismatch", f"{target.name} hears {event.name} as another type or mode than it is", target.place
        )


def _routes(services: Sequence[Service], world: World) -> Iterator[Finding]:
    taken: list[tuple[str, str]] = [(op.http, op.name) for each in world.others for op in each.operations if op.http]
    for service in services:
        for handler in service.operations.values():
            if not handler.http:
                continue
            for route, owner in taken:
                if same_requests(route, handler.http):
                    yield Finding(
                        "route.conflict", f"{handler.name} has the route {handler.http}, as {owner} has", handler.place
                    )
            taken.append((handler.http, handler.name))


def _changes(world: World) -> Iterator[Finding]:
    """What a new version of a service takes from those who use the announced one."""
    for contract in world.own:
        before = world.before.get(contract.service)
        for old in before.operations if before else ():
            new = next((op for op in contract.operations if op.name == old.name), None)
            if new is not None and new.mode is not old.mode:
                modes = f"{old.mode.name.lower()}, and is {new.mode.name.lower()} now"
                yield Finding("contract.mismatch", f"{old.name} was announced as {modes}: its callers will be refused")


def _settings(settings: Settings, world: World) -> Iterator[Finding]:
    services = {contract.service for contract in world.all}
    for name in settings.services:
        if name not in services:
            yield Finding("config.unused", f"there is no service {name!r}{nearest(name, services)}", f"services.{name}")
    routes = [op.http for contract in world.all for op in contract.operations if op.http]
    for route in settings.routes:
        if not any(same_requests(route, other) for other in routes):
            what = f"no service has the route {route!r}{nearest(route, routes)}"
            yield Finding("config.unused", what, f'routes."{route}"')
