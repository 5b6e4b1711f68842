"""What the steps of a journal need to know beside the books: who we are, and what the directory says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.protocol.epoch import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from posthouse.clock import Instant, Seconds
    from posthouse.runtime.directory import Directory

CAPACITY: Final = 100_000
"""The most calls of a store towards one service that are not final."""

KEPT_FOR: Final[Seconds] = 86_400.0
"""How long a settled call is kept, to be asked again of a restored replier; and the key of a deposit."""

KEPT_BYTES: Final = 256 << 20
"""The most bytes of settled calls in a store."""

NOWHERE: Final = Identity()


class Here:
    """One service's place in this process.

    Attributes:
        service: its name.
        instance: the id of this process as the store knows it, which owns calls and runs requests.
        peer: where this process is reached directly.
        now: tells the time.
        directory: what is known of the registry.
        capacity: the most calls towards one service that are not final.
        reply_handlers: what hears the reply to a send, by operation.
        ack_handlers: what hears that a reply was applied, by operation.
        gap_handlers: what hears that events are lost, by topic.
        subscriptions: the names of those that hear a topic, by topic.
        window: how far above its floor a feed reaches: the most events that a subscription holds of one stream.
    """

    __slots__ = (
        "ack_handlers",
        "capacity",
        "directory",
        "gap_handlers",
        "instance",
        "now",
        "peer",
        "reply_handlers",
        "service",
        "subscriptions",
        "window",
    )

    def __init__(
        self,
        service: str,
        *,
        peer: str,
        now: Callable[[], Instant],
        directory: Directory,
        capacity: int = CAPACITY,
    ) -> None:
        self.service = service
        self.instance = peer
        self.peer = peer
        self.now = now
        self.directory = directory
        self.capacity = capacity
        self.reply_handlers: Mapping[str, str] = {}
        self.ack_handlers: Mapping[str, str] = {}
        self.gap_handlers: Mapping[str, str] = {}
        self.subscriptions: Mapping[str, Sequence[str]] = {}
        self.window = CAPACITY

    def store_of(self, service: str) -> Identity:
        """Return the store of a service as its instances announce it; NOWHERE when none is there."""
        for instance in self.directory.present.get(service, ()):
            if instance.store and instance.serving:
                return Identity(instance.store, instance.store_epoch)
        return NOWHERE
