"""`posthouse subscriptions`: who hears which events, and how far each is; and to forget one that is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from posthouse.cli import exits, output
from posthouse.cli.groups import LsByDefault
from posthouse.cli.options import Options, common
from posthouse.errors import UnknownServiceError, UsageError
from posthouse.message.names import check_name, service_of

if TYPE_CHECKING:
    from posthouse.cli.feeds import FeedRow, SubscriptionRow
    from posthouse.cli.stores import Stores
    from posthouse.clock import Instant


class _Dropped(msgspec.Struct, kw_only=True):
    """What forgetting a subscription comes to, as scripts read it.

    Attributes:
        name: which.
        done: it was forgotten, and this is not only said.
        undecided: how many events that it had not handled went, parked ones too.
        behind: how many it will never ask for.
    """

    name: str
    done: bool
    undecided: int
    behind: int


@click.group(cls=LsByDefault)
def subscriptions() -> None:
    """List the subscriptions: what each hears, how far it is, what it is behind; or drop one."""


@subscriptions.command()
@common
def ls(options: Options) -> int:
    """List the subscriptions; of a journaled one with each stream that it hears."""
    from posthouse.cli import feeds
    from posthouse.cli.stores import visit_stores

    async def work(stores: Stores) -> tuple[list[SubscriptionRow], Instant]:
        return await feeds.subscriptions(stores), stores.clock.now()

    rows, now = visit_stores(options, work)
    if options.json:
        for row in rows:
            output.record(row)
        return exits.FINE
    if not rows:
        output.say("nobody has subscribed to anything here yet")
        return exits.FINE
    output.listing(
        ["SUBSCRIPTION", "HEARS", "MODE", "THERE#", "BEHIND#", "UNDECIDED#", "PARKED#", "SINCE"],
        [
            (
                row.name,
                row.topic,
                row.mode,
                row.instances,
                "-" if row.behind is None else f"{row.behind:,}",
                f"{row.undecided:,}",
                f"{row.parked:,}",
                output.ago(row.since, now),
            )
            for row in rows
        ],
        [_note(row, now) for row in rows],
    )
    for row in rows:
        if row.declared is False:
            drop = f"; `posthouse subscriptions drop {row.name}` forgets it" if row.mode == "journaled" else ""
            output.say(f"{row.name} is not declared any more{drop}")
    return exits.FINE


def _note(row: SubscriptionRow, now: Instant) -> str:
    if row.mode != "journaled":
        return ""
    if not row.feeds:
        return (
            f"has not heard of {row.publisher} yet" if row.since else "its store is not here, or does not know it yet"
        )
    return "; ".join(_of_feed(feed, now) for feed in row.feeds)


def _of_feed(feed: FeedRow, now: Instant) -> str:
    """Return how a feed stands: "store 0123abcd/1: over below 5 and 7-9; next 10, head 12"."""
    above = "".join(f", {first}-{last}" for first, last in feed.ranges[:3]) + (", ..." if feed.ranges[3:] else "")
    text = f"store {feed.store[:8]}/{feed.epoch}: over below {feed.floor}{above}; next {feed.next}, head {feed.head}"
    if feed.told is not None and feed.told > feed.head:
        text += f", told {feed.told}"
    if feed.lost_at:
        text += f"; the oldest that it has not is kept until {output.moment(feed.lost_at)}"
        text += f" ({output.ahead(feed.lost_at, now)})"
    return text


@subscriptions.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do it; without it is only said what it means.")
@common
def drop(options: Options, name: str, *, yes: bool) -> int:
    """Forget the subscription NAME ("audit.note"): how far it is, and the events that it has not handled.

    For one that its service does not declare any more. Declared again it is a new one.
    """
    from posthouse.cli.stores import visit_stores

    check_name(name, "subscription")
    dropped = visit_stores(options, lambda stores: _dropped(stores, name, really=yes))
    if options.json:
        output.record(dropped)
        return exits.FINE if yes else exits.FINDING
    lost = f"{dropped.undecided:,} undecided or parked in its store, {dropped.behind:,} in all that it has not had"
    output.line(f"{name} {'is' if yes else 'would be'} forgotten; with it {lost}")
    if yes:
        return exits.FINE
    output.say("declared again it is a new subscription, which does not hear what was told before")
    output.say("nothing was changed; --yes does it")
    return exits.FINDING


async def _dropped(stores: Stores, name: str, *, really: bool) -> _Dropped:
    from posthouse.cli import feeds

    rows = [row for row in await feeds.subscriptions(stores) if row.name == name]
    if not rows:
        from posthouse.runtime.layers import nearest

        known = [row.name for row in await feeds.subscriptions(stores)]
        raise UnknownServiceError(f"no subscription {name!r} is known here{nearest(name, known)}")
    service = service_of(name)
    stored = next((row for row in rows if row.mode == "journaled"), None)
    if stored is None:
        raise UsageError(
            f"{name} is {rows[0].mode}: there is nothing to forget in a store",
            hint="What waits for it lies in its queue: `posthouse queues`.",
        )
    if stored.declared and stored.instances:
        raise UsageError(
            f"{name} is declared, and {service} runs: it would be made anew at once, and miss what is on its way",
            hint=f"Take it out of {service}, and start that again; then drop it.",
        )
    undecided = await stores.change(
        service, lambda books: books.unsubscribe(name), name="subscriptions drop", really=really
    )
    if really and stored.declared is False:
        await stores.host.registry.unsubscribe(name)
    return _Dropped(name=name, done=really, undecided=undecided, behind=stored.behind or 0)
