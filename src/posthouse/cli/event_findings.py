"""What should be seen to about journaled events: rules over how their streams and subscriptions stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from posthouse.cli.output import ahead, size
from posthouse.cli.why import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from posthouse.cli.feeds import SubscriptionRow
    from posthouse.cli.streams import StreamRow
    from posthouse.clock import Instant, Seconds

FAR: Final = 10_000
"""So many events behind is said."""

SOON: Final[Seconds] = 86_400.0
"""Events that a subscription has not had are spoken of when they are dropped within this time."""


class Seen(NamedTuple):
    """Something that should be seen to.

    Attributes:
        what: the topic, or the subscription.
        text: what was seen.
        hint: what to do.
    """

    what: str
    text: str
    hint: str


def of_streams(rows: Sequence[StreamRow]) -> Iterator[Seen]:
    """Yield what is to be said of publishers."""
    for row in rows:
        if row.is_near_limit:
            yield Seen(
                row.topic,
                f"{size(row.bytes)} of at most {size(row.limit)} are kept",
                "The oldest go before their time: tell less, or put large data elsewhere and tell where it is.",
            )


def of_subscriptions(rows: Sequence[SubscriptionRow], now: Instant) -> Iterator[Seen]:
    """Yield what is to be said of journaled subscriptions: of each the worst."""
    for row in rows:
        service = row.name.partition(".")[0]
        lost_at = min((feed.lost_at for feed in row.feeds if feed.lost_at), default=0.0)
        if row.declared is False:
            if row.undecided or row.parked:
                yield Seen(
                    row.name,
                    f"not declared any more, and it has {count(row.undecided + row.parked, 'event')} left in its store",
                    f"Declare it again, or forget it: `posthouse subscriptions drop {row.name}`.",
                )
        elif lost_at and lost_at < now + SOON:
            yield Seen(
                row.name,
                f"{row.behind or 0:,} behind, and {row.publisher} drops the oldest of them {ahead(lost_at, now)}",
                f"Start {service}."
                if not row.instances
                else f"See why {service} is slow: `posthouse inbox {service}`.",
            )
        elif (row.behind or 0) >= FAR:
            yield Seen(
                row.name,
                f"{row.behind or 0:,} events behind",
                f"Start {service}."
                if not row.instances
                else f"See why {service} is slow: `posthouse inbox {service}`.",
            )
