"""From a function and its options to what a Service keeps: a Handler, a Subscription, a ReplyHandler, a GapHandler.

Here a declaration is judged as a whole: the function against its contract, the options against each
other, the name and the route against those that are there.
"""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any, Final, Literal

from posthouse.declare import options, signature
from posthouse.declare.operation import DEFAULT_MODE, Event, Mode, Operation
from posthouse.declare.route import check_route, same_requests
from posthouse.declare.schema_of import fits
from posthouse.declare.target import GapHandler, Handler, ReplyHandler, Subscription, Target
from posthouse.declare.values import Gap, Reply
from posthouse.declare.wrong import wrong
from posthouse.message.message import Mode as Promise
from posthouse.message.names import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from posthouse.clock import Seconds

_LINGER: Final = "50ms"
_BATCH: Final = ("batch", "linger")


def short_of(name: str) -> str:
    """Return a name without its service: "quote" of "prices.quote"."""
    return name.partition(".")[2]


def handler_of(
    service: str,
    function: Callable[..., Any],
    how: Mapping[str, Any],
    contract: Operation[Any, Any] | None,
    *,
    taken: Iterable[Target],
) -> Handler:
    """Return the handler that a function makes.

    Args:
        service: whose it is.
        function: as the user wrote it.
        how: the options, as the user wrote them.
        contract: the shared contract that it implements; None when the function is the contract.
        taken: what the service has already.

    Raises:
        DeclarationError: see Service.handler.
    """
    says = signature.read(function)
    place = says.place
    name = contract.name if contract else f"{service}.{how.get('name', says.name)}"
    of = f"handler {name!r}"
    if contract:
        _check_contract(contract, says, how, of)
    else:
        options.check_known(how, (*options.OPERATION, *options.CONTRACT, *_BATCH), of, place)
    check_name(name, "handler")
    batch, linger = _batch(how, of, place)
    http = how.get("http", "")
    request = signature.item_of(says.data, says.name, place) if batch else says.data
    if contract:
        request = contract.request
    if "http" in how:
        check_route(http, request, of, place)
    if batch:
        _check_silent(says, of)
    _check_free(name, http, taken, of, place)
    if contract is None:
        mode: Mode = how.get("mode", "volatile" if http.startswith("GET ") else DEFAULT_MODE)
        rejects = how.get("rejects", ())
        contract = Operation[Any, Any](name, request, says.reply, mode=mode, key=how.get("key"), rejects=rejects)
    return Handler(
        name=name,
        function=function,
        is_async=says.is_async,
        context=says.context,
        batch=batch,
        linger=linger,
        run=options.run_options(how, of, place),
        place=place,
        operation=contract.implemented_by(function),
        http=http,
        status=_status(how, of, place),
        rate=options.check_rate(how["rate"], of, place) if "rate" in how else "",
    )


def subscription_of(
    service: str, function: Callable[..., Any], how: Mapping[str, Any], event: Event[Any], *, taken: Iterable[Target]
) -> Subscription:
    """Return the subscription that a function makes; the arguments are those of `handler_of`.

    Raises:
        DeclarationError: see Service.on.
    """
    says = signature.read(function)
    place = says.place
    name = f"{service}.{how.get('name', says.name)}"
    of = f"subscription {name!r}"
    options.check_known(how, (*options.SUBSCRIPTION, *_BATCH), of, place)
    check_name(name, "subscription")
    batch, linger = _batch(how, of, place)
    hears = signature.item_of(says.data, says.name, place) if batch else says.data
    if not fits(event.data, into=hears):
        do = f"take what {event.name!r} tells: {event.data!r}"
        raise wrong(f"{of} takes {hears!r}", do, where=place)
    _check_silent(says, of)
    start = how.get("start", "new")
    if start not in {"new", "first"}:
        raise wrong(f"start= of {of} is {start!r}", "write 'new' or 'first'", where=place)
    if start == "first" and event.promise is not Promise.JOURNALED:
        do = "declare the event with mode='journaled', or leave start= out"
        raise wrong(f"start='first' of {of}: {event.name} has mode={event.mode!r}, and is not kept", do, where=place)
    _check_free(name, "", taken, of, place)
    return Subscription(
        name=name,
        function=function,
        is_async=says.is_async,
        context=says.context,
        batch=batch,
        linger=linger,
        run=options.run_options(how, of, place),
        place=place,
        event=event,
        start=start,
    )


def gap_handler_of(
    service: str, function: Callable[..., Any], how: Mapping[str, Any], event: Event[Any], *, taken: Iterable[Target]
) -> GapHandler:
    """Return what a function makes that hears of lost events; the arguments are those of `handler_of`.

    Raises:
        DeclarationError: see Service.on_gap.
        IllegalNameError: service and event have too long a name together.
    """
    says = signature.read(function)
    place = says.place
    name = f"{service}.on_gap.{event.name}"
    of = f"{service}.on_gap({event.name!r})"
    options.check_known(how, options.RUN, of, place)
    check_name(name, "on_gap handler")
    if says.data not in {Gap, Any}:
        raise wrong(f"{of} takes {says.data!r}", "write `gap: Gap`", where=place)
    _check_silent(says, of)
    _check_free(name, "", taken, of, place)
    return GapHandler(
        name=name,
        function=function,
        is_async=says.is_async,
        context=says.context,
        run=options.run_options(how, of, place),
        place=place,
        event=event,
    )


def reply_handler_of(
    service: str,
    function: Callable[..., Any],
    how: Mapping[str, Any],
    operation: Operation[Any, Any],
    *,
    what: Literal["reply", "ack"],
    taken: Iterable[Target],
) -> ReplyHandler:
    """Return what a function makes that hears of outcomes, or of acks; the arguments are those of `handler_of`.

    Raises:
        DeclarationError: see Service.on_reply and Service.on_ack.
        IllegalNameError: service and operation have too long a name together.
    """
    says = signature.read(function)
    place = says.place
    name = f"{service}.on_{what}.{operation.name}"
    of = f"{service}.on_{what}({operation.name!r})"
    options.check_known(how, options.RUN, of, place)
    check_name(name, f"on_{what} handler")
    _check_reply(operation, says, of)
    _check_silent(says, of)
    _check_free(name, "", taken, of, place)
    return ReplyHandler(
        name=name,
        function=function,
        is_async=says.is_async,
        context=says.context,
        run=options.run_options(how, of, place),
        place=place,
        operation=operation,
        what=what,
    )


def _check_reply(operation: Operation[Any, Any], says: signature.Signature, of: str) -> None:
    """See to it that a function takes the Reply of an operation, as far as can be told at import."""
    kind = typing.get_origin(says.data) or says.data
    if isinstance(kind, type) and kind not in {Reply, Any}:
        do = "write `reply: Reply[Charge, Receipt]`, with the operation's types: it is given the request too"
        raise wrong(f"{of} takes {says.data!r}", do, where=says.place)
    declared = (operation.request, operation.reply)
    for ours, its, which in zip(typing.get_args(says.data), declared, ("request", "reply"), strict=False):
        if not fits(its, into=ours):
            do = f"write what {operation.name!r} says: {its!r}"
            raise wrong(f"{of} takes a Reply whose {which} is {ours!r}", do, where=says.place)


def _check_contract(contract: Operation[Any, Any], says: signature.Signature, how: Mapping[str, Any], of: str) -> None:
    """See to it that a function can stand for its contract, as far as can be told at import."""
    place = says.place
    for option in (*options.CONTRACT, *_BATCH):
        if option in how:
            do = "say it there" if option in options.CONTRACT else "declare a batch handler without a shared contract"
            raise wrong(f"{option}= of {of} belongs to its contract", do, where=place)
    options.check_known(how, options.OPERATION, of, place)
    if how.get("name", short_of(contract.name)) != short_of(contract.name):
        raise wrong(f"name={how['name']!r} of {of} is not its contract's", "leave name= out", where=place)
    if not fits(contract.request, into=says.data):
        do = f"take what the contract says: {contract.request!r}"
        raise wrong(f"{of} takes {says.data!r}", do, where=place)
    if says.reply is not None and not fits(says.reply, into=contract.reply):  # None may stand for Reject alone
        do = f"return what the contract says: {contract.reply!r}"
        raise wrong(f"{of} returns {says.reply!r}", do, where=place)


def _check_silent(says: signature.Signature, of: str) -> None:
    if says.reply is not None:
        raise wrong(f"{of} returns {says.reply!r}, and nobody is told", "write `-> None`", where=says.place)


def _check_free(name: str, http: str, taken: Iterable[Target], of: str, place: str) -> None:
    """See to it that nothing else has the name, which is the address of a queue, or the route."""
    for target in taken:
        if target.name == name:
            one = isinstance(target, ReplyHandler | GapHandler)
            do = "make one function of the two" if one else "give one of them another name with name="
            raise wrong(f"{of} has the name of what stands at {target.place}", do, where=place)
        if isinstance(target, Handler) and target.http and same_requests(http, target.http):
            do = "give one of them another route"
            raise wrong(f"{of} has the route {http!r}, as {target.name!r} at {target.place}", do, where=place)


def _batch(how: Mapping[str, Any], of: str, place: str) -> tuple[int, Seconds]:
    if "batch" not in how:
        if "linger" in how:
            raise wrong(f"{of} has linger= without batch=", "add batch=100, or leave linger= out", where=place)
        return 0, 0.0
    linger = options.duration(how.get("linger", _LINGER), "linger", of, place)
    return options.count(how["batch"], "batch", of, place), linger


def _status(how: Mapping[str, Any], of: str, place: str) -> int:
    status = how.get("status", 0)
    if "status" not in how:
        return 0
    if "http" not in how:
        raise wrong(f"{of} has status= without a route", "add http=, or leave status= out", where=place)
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 299:
        do = "write the status of a good answer, 200 to 299; a Reject has its own"
        raise wrong(f"status= of {of} is {status!r}", do, where=place)
    return status
