"""`posthouse lanes`: the numbered requests from one store to a service, and what to do when that store is gone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import click
import msgspec

from posthouse.cli import exits, output
from posthouse.cli.options import Options, common
from posthouse.errors import UsageError
from posthouse.message.names import check_part
from posthouse.protocol.epoch import Identity

if TYPE_CHECKING:
    from posthouse.cli.stores import Stores
    from posthouse.contracts.store import LaneIn, LaneOut, Store
    from posthouse.runtime.steps.intervening import Changed

_SHOWN: Final = 20
_ARROW: Final = "->"


class AtReplier(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as its replier keeps it: above what it ever received, below what it has forgotten."""

    next: int
    floor: int
    ranges: list[tuple[int, int]]
    closed: bool


class LaneRow(msgspec.Struct, kw_only=True):
    """A lane from both sides.

    Attributes:
        caller: who asks.
        service: who is asked.
        epoch: of the caller's store, in which it was opened.
        next: the number that comes next.
        floor: all below it are final.
        ranges: what is final above it.
        pending: numbered, and neither answered nor known to be parked.
        waiting: calls that have no number yet.
        acked: the floor that the replier was last known to have.
        closed: nothing is numbered in it any more.
        store: of the replier, to which it is bound; empty for none yet.
        store_epoch: the life of it.
        bound_to_this: whether that is the store of the replier here; None where it has none here.
        there: the replier's side; None where that is not here.
    """

    caller: str
    service: str
    epoch: int
    next: int
    floor: int
    ranges: list[tuple[int, int]]
    pending: int
    waiting: int
    acked: int
    closed: bool
    store: str
    store_epoch: int
    bound_to_this: bool | None
    there: AtReplier | None


class Plan(msgspec.Struct, kw_only=True):
    """What a change of lanes comes to, as scripts read it.

    Attributes:
        caller: whose calls.
        service: to whom.
        done: it was done, and is not only said.
        asked_again: ids of calls that are asked of the other store.
        unknown: ids of calls of which nobody can ever say what became of them.
        not_done: ids of calls that were never sent, and are not done.
    """

    caller: str
    service: str
    done: bool
    asked_again: list[str]
    unknown: list[str]
    not_done: list[str]


@click.group()
def lanes() -> None:
    """List the lanes between stores; bind one to another store, or end what is under way in it."""


@lanes.command()
@common
def ls(options: Options) -> int:
    """List the lanes: numbers given, final, under way; the store that each is bound to, and what that has of it."""
    from posthouse.cli.stores import visit_stores

    async def work(stores: Stores) -> list[LaneRow]:
        return [row for store in stores.by_service.values() for row in await _rows(stores, store)]

    rows = visit_stores(options, work)
    if options.json:
        for row in rows:
            output.record(row)
        return exits.FINE
    if not rows:
        output.say("there are no lanes here yet; one is opened by the first journaled call to a service")
        return exits.FINE
    output.table(
        ["LANE", "EPOCH#", "NEXT#", "FINAL#", "PENDING#", "WAITING#", "ACKED#", "STORE", "THERE"],
        [
            (
                f"{row.caller}{_ARROW}{row.service}{' (closed)' if row.closed else ''}",
                row.epoch,
                row.next,
                row.floor + sum(last - first + 1 for first, last in row.ranges),
                row.pending,
                row.waiting,
                row.acked,
                f"{row.store[:8]}/{row.store_epoch}" if row.store else "-",
                _has(row),
            )
            for row in rows
        ],
    )
    if any(row.bound_to_this is False for row in rows):
        output.say("lanes bound to another store than the one here: `posthouse lanes map --help` says what can be done")
    return exits.FINE


def _has(row: LaneRow) -> str:
    if row.there is not None:
        return f"{row.there.floor}..{row.there.next}"
    return "another store" if row.bound_to_this is False else "-"


@lanes.command(name="map")
@click.argument("lane", metavar="'CALLER->REPLIER'")
@click.argument("new_store", metavar="NEWSTORE")
@click.option("--yes", is_flag=True, help="Do it; without it is only said what it means.")
@common
def map_(options: Options, lane: str, new_store: str, *, yes: bool) -> int:
    """Ask what is open of another store of the replier: NEWSTORE is its id, or the beginning of it.

    For a replier whose store is gone for good and that has begun a new one. What the old store did is not known to
    the new one: a request that had taken effect there, and whose reply had not come, takes effect again.
    """
    from posthouse.cli.stores import visit_stores

    caller, replier = _parts(lane)

    async def work(stores: Stores) -> tuple[Changed, str]:
        from posthouse.runtime.steps.intervening import map_lanes

        rows = await _bound(stores, caller, replier)
        new = await _identity(stores, replier, new_store)
        _must_be_gone(stores, replier, {row.store for row in rows} - {new.id, ""})
        if all(row.store == new.id for row in rows):
            raise UsageError(f"{caller}{_ARROW}{replier} is bound to store {new.id[:8]} already")
        step = partial(map_lanes, service=replier, store=new)
        return await stores.change(caller, step, name="lanes map", really=yes), new.id

    changed, store = visit_stores(options, work)
    if options.json:
        output.record(_plan(caller, replier, changed, done=yes))
        return exits.FINE if yes else exits.FINDING
    count = len(changed.asked_again)
    if yes:
        output.line(f"{caller}{_ARROW}{replier} is bound to store {store[:8]} now; {_requests(count)} asked of it")
        return exits.FINE
    output.line(f"{caller}{_ARROW}{replier} would be bound to store {store[:8]}, and {_requests(count)} asked of it:")
    _list(changed.asked_again)
    output.say(
        "what the old store did is not known to the new one: one that had taken effect there takes effect again here"
    )
    output.say("nothing was changed; --yes does it")
    return exits.FINDING


@lanes.command()
@click.argument("lane", metavar="'CALLER->REPLIER'")
@click.option("--yes", is_flag=True, help="Do it; without it is only said what it means.")
@common
def retire(options: Options, lane: str, *, yes: bool) -> int:
    """End what is under way to a replier that is gone for good.

    What was sent and not answered becomes unknown, as nobody can ever say whether it was done; what was never sent
    is not done. Handlers that wait are told. Should the service come again, it is asked what is new.
    """
    from posthouse.cli.stores import visit_stores

    caller, replier = _parts(lane)

    async def work(stores: Stores) -> Changed:
        from posthouse.runtime.steps.intervening import retire_lanes

        await _bound(stores, caller, replier)
        _must_be_gone(stores, replier, None)
        step = partial(retire_lanes, service=replier, now=stores.clock.now())
        return await stores.change(caller, step, name="lanes retire", really=yes)

    changed = visit_stores(options, work)
    if options.json:
        output.record(_plan(caller, replier, changed, done=yes))
        return exits.FINE if yes else exits.FINDING
    would = "" if yes else "would be "
    output.line(
        f"{len(changed.unknown)} {would}unknown, {len(changed.not_done)} {would}not done, as they were never sent"
    )
    _list(changed.unknown)
    if yes:
        return exits.FINE
    output.say(f"should {replier} come again with its store, what it has of these may be done all the same")
    output.say("nothing was changed; --yes does it")
    return exits.FINDING


# --- reading ----------------------------------------------------------------------------------------------


async def _rows(stores: Stores, store: Store) -> list[LaneRow]:
    rows: list[LaneRow] = []
    for lane in await store.read(lambda books: books.lanes_out()):
        replier = stores.by_service.get(lane.service)
        is_here = None if replier is None or not lane.peer.id else replier.identity.id == lane.peer.id
        there: LaneIn | None = None
        if replier is not None and is_here is not False:
            opened = Identity(store.identity.id, lane.epoch)
            there = await replier.read(lambda books, opened=opened: books.lane_from(opened))
        rows.append(_row(store.service, lane, there, is_here=is_here))
    return rows


def _row(caller: str, lane: LaneOut, there: LaneIn | None, *, is_here: bool | None) -> LaneRow:
    return LaneRow(
        caller=caller,
        service=lane.service,
        epoch=lane.epoch,
        next=lane.next,
        floor=lane.final.floor,
        ranges=lane.final.ranges,
        pending=lane.pending,
        waiting=lane.waiting,
        acked=lane.acked,
        closed=lane.closed,
        store=lane.peer.id,
        store_epoch=lane.peer.epoch,
        bound_to_this=is_here,
        there=None
        if there is None
        else AtReplier(next=there.next, floor=there.over.floor, ranges=there.over.ranges, closed=there.closed),
    )


# --- changing ---------------------------------------------------------------------------------------------


def _parts(lane: str) -> tuple[str, str]:
    caller, arrow, replier = lane.partition(_ARROW)
    if not arrow or not replier:
        raise UsageError(
            f"{lane!r} is not a lane: it is written 'CALLER->REPLIER'",
            hint="Quote it: without quotes the shell takes what stands behind > for a file.",
        )
    return check_part(caller, "service"), check_part(replier, "service")


async def _bound(stores: Stores, caller: str, replier: str) -> list[LaneRow]:
    """Return the lanes from a caller to a replier that are not closed.

    Raises:
        UsageError: there is none.
    """
    rows = await _rows(stores, stores.of(caller))
    found = [row for row in rows if row.service == replier and not row.closed]
    if not found:
        known = ", ".join(sorted({f"{caller}{_ARROW}{row.service}" for row in rows})) or "none"
        raise UsageError(f"there is no open lane {caller}{_ARROW}{replier}; those of {caller}: {known}")
    return found


async def _identity(stores: Stores, replier: str, prefix: str) -> Identity:
    """Return the store of a replier whose id begins so: the one here, or that of an instance that runs."""
    known = {
        Identity(instance.store, instance.store_epoch)
        for instance in stores.host.directory.present.get(replier, ())
        if instance.store
    }
    if (store := stores.by_service.get(replier)) is not None:
        known.add(store.identity)
    found = [each for each in known if each.id.startswith(prefix)]
    if len(found) != 1:
        there = ", ".join(sorted(each.id for each in known)) or "none"
        raise UsageError(
            f"{'no' if not found else 'more than one'} store of {replier} has an id that begins with {prefix!r}",
            hint=f"Stores of {replier} that are here, or of which an instance runs: {there}.",
        )
    return found[0]


def _must_be_gone(stores: Stores, replier: str, old: set[str] | None) -> None:
    """See that nobody works on what is to be given up.

    Raises:
        UsageError: an instance of the replier runs: with one of these stores; with any, for None.
    """
    for instance in stores.host.directory.present.get(replier, ()):
        if instance.serving and (old is None or instance.store in old):
            raise UsageError(
                f"{replier} runs on {instance.host} (process {instance.pid}), so its store is not gone",
                hint=f"It answers what is open. End it first, if its store {instance.store[:8]} is really given up.",
            )


def _plan(caller: str, replier: str, changed: Changed, *, done: bool) -> Plan:
    return Plan(
        caller=caller,
        service=replier,
        done=done,
        asked_again=changed.asked_again,
        unknown=changed.unknown,
        not_done=changed.not_done,
    )


def _requests(count: int) -> str:
    return "one request is" if count == 1 else f"{count:,} requests are"


def _list(ids: list[str]) -> None:
    for id in ids[:_SHOWN]:
        output.line(f"  {id}")
    if len(ids) > _SHOWN:
        output.line(f"  ... and {len(ids) - _SHOWN:,} more; --json lists all")
