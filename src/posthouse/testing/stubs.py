"""Answers in place of handlers: of services that are tested, and of those that are not here.

Each handler of a harness runs through here: its run is counted, and a stub, if there is one, is asked
instead of the function.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from posthouse.declare.service import Service
from posthouse.declare.target import Handler, Target
from posthouse.message.names import service_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.declare.operation import Operation
    from posthouse.testing.watched import Record

_Target = TypeVar("_Target", bound=Target)


class Stubs:
    """What is answered, by the name of the operation.

    Args:
        record: what is told of every run.

    Attributes:
        services: one of stubs for each that was named, tested or not.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._answers: dict[str, Any] = {}
        self.services: dict[str, Service] = {}

    def knows(self, op: Operation[Any, Any]) -> bool:
        """Return whether there is a stub for an operation."""
        return op.name in self._answers

    def answer(self, op: Operation[Any, Any], answer: Any) -> None:
        """Answer an operation like this from now on: a reply, an exception, or a function of the request."""
        if op.name not in self._answers:
            self._add(op)
        self._answers[op.name] = answer

    def _add(self, op: Operation[Any, Any]) -> None:
        """Let the service of stubs that has this operation's name handle it too."""
        name = service_of(op.name)
        stub = self.services.setdefault(name, Service(name))

        async def unanswered(data: Any) -> None:
            raise LookupError(f"{op.name} has no stub")

        handler = Handler(name=op.name, function=unanswered, is_async=True, context="none", operation=op)
        stub.operations[op.name.partition(".")[2]] = self._watch(handler)

    def watched(self, service: Service) -> Service:
        """Return a service that does the same, counts its runs, and gives a stub's answer where there is one."""
        twin = copy.copy(service)
        twin.operations = {short: self._watch(handler) for short, handler in service.operations.items()}
        twin.subscriptions = {short: self._watch(heard) for short, heard in service.subscriptions.items()}
        twin.reply_handlers = {name: self._watch(heard) for name, heard in service.reply_handlers.items()}
        twin.ack_handlers = {name: self._watch(heard) for name, heard in service.ack_handlers.items()}
        return twin

    def _watch(self, target: _Target) -> _Target:
        name, function = target.name, target.function
        runs, answers = self._record.runs, self._answers

        async def run(*arguments: Any) -> Any:
            runs.append(name)
            return _answered(answers[name], arguments[0]) if name in answers else await function(*arguments)

        def run_in_thread(*arguments: Any) -> Any:
            runs.append(name)
            return _answered(answers[name], arguments[0]) if name in answers else function(*arguments)

        watched: Callable[..., Any] = run if target.is_async else run_in_thread
        return msgspec.structs.replace(target, function=watched)


def _answered(answer: Any, data: Any) -> Any:
    if isinstance(answer, BaseException):
        raise answer
    return answer(data) if callable(answer) else answer
