"""`posthouse messages`: journaled requests and events, as the stores of both sides keep them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from posthouse.cli import data, exits, output
from posthouse.cli.conversation import Conversation
from posthouse.cli.options import Options, common
from posthouse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.cli.events import EventSeen
    from posthouse.cli.listing import Row
    from posthouse.cli.stores import Stores
    from posthouse.clock import Instant

_CANDIDATES: Final = 5


class _Answer(msgspec.Struct, omit_defaults=True):
    """What `why` says, as scripts read it."""

    id: str
    settled: bool
    why: str
    do: str = ""


class NotInStoresYetError(UsageError):
    """No store knows it, but requests lie in queues that no store has taken in."""


@click.group()
def messages() -> None:
    """List journaled requests and events, show one from all sides, and say why one is not done."""


@messages.command()
@click.option("--service", default="", help="Only those that it asked, or was asked.")
@click.option("--state", default="", help="Only those in this state: open, waiting, parked, running, done, ...")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@common
def ls(options: Options, service: str, state: str, limit: int) -> int:
    """List requests, newest first: who asks what, and the state at the caller (or where that is not here, there).

    And the events that a subscription has and has not handled, with who told them.
    """
    from posthouse.cli.listing import listed, states
    from posthouse.cli.stores import visit_stores

    if state and state not in states():
        from posthouse.runtime.layers import nearest

        raise UsageError(
            f"there is no state {state!r}{nearest(state, states())}", hint=f"One of: {', '.join(states())}."
        )

    async def work(stores: Stores) -> tuple[list[Row], Instant]:
        return await listed(stores, service=service, state=state, limit=limit), stores.clock.now()

    rows, now = visit_stores(options, work)
    if options.json:
        for row in rows:
            output.record(row)
    elif not rows:
        output.say("no such requests are in the stores here")
    else:
        output.table(
            ["ID", "FROM", "ASKS", "STATE", "AGE"],
            [(row.id, row.caller or "-", row.operation, row.state, output.ago(row.asked, now)) for row in rows],
        )
        if len(rows) == limit:
            output.say(f"the newest {limit}; --limit shows more, --service and --state choose")
    return exits.FINE


@messages.command()
@click.argument("id")
@common
def get(options: Options, id: str) -> int:
    """Show one request from both sides: who asked, what became of it there, what its handler asked in turn.

    Or one event: who told it, and what became of it at each subscription. ID may be abbreviated, as long as it is the
    only one that begins so.
    """
    found, now = _found(options, id)
    for each in found:
        if options.json:
            output.record(each)
        elif isinstance(each, Conversation):
            _show(each, now)
        else:
            from posthouse.cli.event_shown import show

            show(each, now)
    return exits.FINE


@messages.command()
@click.argument("id")
@common
def why(options: Options, id: str) -> int:
    """Say in one sentence why a request is not done, or an event not handled everywhere, and what to do.

    The exit status is 1 as long as it is not settled. ID may be abbreviated.
    """
    from posthouse.cli.why import why as why_request
    from posthouse.cli.why_event import why as why_event

    settled = True
    try:
        found, now = _found(options, id)
    except NotInStoresYetError as error:
        if options.json:
            output.record(_Answer(id, False, str(error), error.hint))
        else:
            output.fold(str(error), before=f"{id}: ", below="  ")
            output.fold(error.hint, before="  do: ")
        return exits.FINDING
    for each in found:
        answer = why_request(each, now) if isinstance(each, Conversation) else why_event(each, now)
        settled = settled and answer.settled
        if options.json:
            output.record(_Answer(each.id, answer.settled, answer.why, answer.do))
            continue
        output.fold(answer.why, before=f"{each.id}: ", below="  ")
        if answer.do:
            output.fold(answer.do, before="  do: ")
    return exits.FINE if settled else exits.FINDING


def _found(options: Options, id: str) -> tuple[list[Conversation | EventSeen], Instant]:
    from posthouse.cli.stores import visit_stores

    async def work(stores: Stores) -> tuple[list[Conversation | EventSeen], Instant]:
        from posthouse.cli import events
        from posthouse.cli.conversation import conversations

        whole = await resolve(stores, id)
        found: list[Conversation | EventSeen] = [*await conversations(stores, whole)]
        event = await events.event(stores, whole)
        return [*found, *([] if event is None else [event])], stores.clock.now()

    found, now = visit_stores(options, work)
    if not found:
        raise UsageError(f"of {id!r} only the key is kept: it was adopted, decided and forgotten")
    return found, now


async def resolve(stores: Stores, prefix: str) -> str:
    """Return the id that a person means by its beginning.

    Raises:
        UsageError: none begins so, or several do.
    """
    ids: set[str] = set()
    for store in stores.by_service.values():
        ids.update(await store.read(lambda books: books.ids(prefix, _CANDIDATES + 1)))
    if prefix in ids:
        return prefix
    if len(ids) == 1:
        return ids.pop()
    if ids:
        some = sorted(ids)[:_CANDIDATES]
        more = ", ..." if len(ids) > _CANDIDATES else ""
        raise UsageError(f"several ids begin with {prefix!r}: {', '.join(some)}{more}", hint="Give more of it.")
    lying = await _in_queues(stores)
    if lying:
        text = f"no store here knows a request {prefix!r}, which may lie in a queue: there are {', '.join(lying)}"
        raise NotInStoresYetError(
            text, hint="Start the service: it takes into its store what callers without a store have asked."
        )
    raise UsageError(
        f"no store here knows a request or an event {prefix!r}",
        hint="What was settled is forgotten after a day, or sooner where there is much, and an event when its publisher"
        " does not keep it any more; `posthouse messages ls` lists.",
    )


async def _in_queues(stores: Stores) -> list[str]:
    """Return how many journaled requests lie in which queues: what callers without a store ask is there at first."""
    from posthouse.message.message import Mode

    journaled = {name for name, record in stores.host.directory.operations.items() if record.mode is Mode.JOURNALED}
    return [
        f"{info.stored:,} for {info.spec.name}"
        for info in await stores.host.transport.queues()
        if info.stored and info.spec.name in journaled
    ]


# --- for people -------------------------------------------------------------------------------------------


def _show(conversation: Conversation, now: Instant) -> None:
    from posthouse.cli.why import count
    from posthouse.cli.why import why as reason

    caller = conversation.caller or "somebody"
    asked = f", {output.ago(conversation.asked, now)} ago" if conversation.asked else ""
    output.line(output.plain(f"{conversation.id}  {caller} asks {conversation.operation}{asked}"))
    answer = reason(conversation, now)
    output.line()
    output.field("so far", answer.why)
    if answer.do:
        output.field("do", answer.do)
    output.line()
    if conversation.call is not None:
        _fields("caller", _of_caller(conversation, now))
    _fields("replier", _of_replier(conversation, now))
    if conversation.work:
        output.field("made for", f"the handler of {conversation.work}")
    if conversation.inside:
        output.field("calls", "made by its handler:")
        _show_tree(conversation.inside, depth=1)
    for name, state in conversation.runs.items():
        output.field("heard by", f"{name}, {state}")
    if conversation.letter is not None:
        letter = conversation.letter
        text = f"{letter.id}, {letter.state} after {count(letter.attempts, 'attempt')}: {letter.code}: {letter.reason}"
        output.field("dead letter", text)
    if conversation.outcome is not None:
        outcome = conversation.outcome
        output.field("outcome", f"{outcome.code}: {outcome.message}" if outcome.code else "done")
    output.line(f"\ndata\n{data.shown(bytes(conversation.data))}")
    if conversation.outcome is not None and not conversation.outcome.code:
        output.line(f"\nreply\n{data.shown(bytes(conversation.outcome.data))}")


def _fields(name: str, texts: Sequence[str]) -> None:
    for number, text in enumerate(texts):
        output.field("" if number else name, text)


def _of_caller(conversation: Conversation, now: Instant) -> list[str]:
    from posthouse.cli.why import shown

    call = conversation.call
    if call is None:
        return []
    wanted = "nobody waits for the outcome" if call.wanted_by == "nobody" else f"wanted by its {call.wanted_by}"
    texts = [f"{call.store.service}, store {call.store.id[:8]} epoch {call.store.epoch}: {call.state}; {wanted}"]
    if (lane := call.lane) is not None:
        number = f"number {lane.number}" if lane.number >= 0 else "no number yet"
        bound = f"store {lane.bound_to.id[:8]} epoch {lane.bound_to.epoch}" if lane.bound_to.id else "no store yet"
        texts.append(
            f"lane {lane.lane} to {bound}, {number}; all below {lane.floor} final, acked below {lane.acked};"
            f" {lane.pending} under way, {lane.waiting} waiting"
        )
    if call.key:
        texts.append(f"ordering key {call.key!r}")
    if call.deadline:
        texts.append(f"need not be done after {output.moment(call.deadline)} ({output.ahead(call.deadline, now)})")
    if call.owner is not None and call.state in {"open", "cancel_wanted", "redriving"}:
        texts.append(f"sent by {shown(call.owner)}")
    return texts


def _of_replier(conversation: Conversation, now: Instant) -> list[str]:
    from posthouse.cli.why import count, shown

    request, replier = conversation.request, conversation.replier
    if request is None:
        return [f"{replier}: not seen, its store is not here, or is another one than was asked"]
    name = f"{replier}, store {request.store.id[:8]} epoch {request.store.epoch}"
    if not request.state:
        return [f"{name}: {'gone: told, acked and forgotten' if request.forgotten else 'never received'}"]
    texts = [f"{name}: {request.state}; {count(request.attempt, 'attempt')}, {count(request.failures, 'failure')}"]
    if request.deaths:
        texts.append(f"{count(request.deaths, 'instance')} died at it")
    if request.instance is not None:
        texts.append(f"run by {shown(request.instance)}, for at most {output.ago(request.due, now)}")
    elif request.state == "received":
        texts.append(f"may run {output.ahead(request.due, now)}")
    if request.deadline:
        texts.append(f"not run after {output.moment(request.deadline)} ({output.ahead(request.deadline, now)})")
    if not request.may_run:
        texts.append("waits until its caller asks for it again: a store was restored")
    return texts


def _show_tree(inside: Sequence[Conversation], *, depth: int) -> None:
    for each in inside:
        state = "" if each.call is None else each.call.state
        at = f", {each.request.state} there" if each.request is not None and each.request.state else ""
        output.field("", f"{'  ' * (depth - 1)}{each.id}  {each.operation}  {state}{at}")
        _show_tree(each.inside, depth=depth + 1)
