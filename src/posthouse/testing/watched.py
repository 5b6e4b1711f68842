"""A host that can be looked at: what went through its transport, and whether it rests.

The harness reads its answers here. It sees frames, as an engine does, and nothing of the handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.contracts.transport import Rejected
from posthouse.message.codec import decode
from posthouse.runtime.caller import Caller
from posthouse.runtime.host import Host
from posthouse.testing.faulty import FaultyTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from posthouse.contracts.transport import Delivery, Direct, Outcome, Outgoing, Transport
    from posthouse.message.message import Kind, Message
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settings import Settings


class Record:
    """What was sent, each message once however often it went over, in the order of the first time.

    Attributes:
        messages: by kind and id.
        parked: (queue, why) of each dead letter that nobody decided.
        runs: the name of what ran, once for each attempt.
    """

    def __init__(self) -> None:
        self.messages: dict[tuple[Kind, str], Message] = {}
        self.parked: list[tuple[str, Rejected]] = []
        self.runs: list[str] = []

    def add(self, message: Message) -> None:
        """Remember a message."""
        self.messages.setdefault((message.kind, message.id), message)

    def of(self, kind: Kind, name: str) -> list[Message]:
        """Return the messages of a kind that belong to an operation or event."""
        return [message for message in self.messages.values() if message.kind is kind and message.type == name]


class WatchedHost(Host):
    """A host whose messages are recorded.

    Args:
        settings: how it runs.
        seams: time, chance, ids, tasks.
        record: what is told of every message; several hosts may share one.
    """

    def __init__(self, settings: Settings, *, seams: Seams, record: Record) -> None:
        super().__init__(settings, seams=seams)
        self._record = record
        self.transport = RecordingTransport(self.transport, record)

    def make_caller(self) -> Caller:
        """Return one that records what it tells."""
        return _RecordingCaller(self.transport, self.directory, peer=self.peer, seams=self.seams, record=self._record)

    @property
    def is_busy(self) -> bool:
        """Whether a handler is at work, or a message is here that none has taken yet.

        A handler that waits for a reply is not at work, and what it holds is not waiting.
        """
        return bool(self.settler.held) or any(
            serving.at_work or any(runner.held > runner.at_work * runner.batch for runner in serving.runners.values())
            for serving in self._servings.values()
        )

    async def hold_on(self) -> None:
        """Renew all leases, as happens by itself where time passes by itself."""
        held = [delivery for serving in self._servings.values() for delivery in serving.deliveries]
        await self.transport.renew([*held, *self.settler.held])
        await self.registry.register(list(self._present.values()))


class _RecordingCaller(Caller):
    def __init__(self, transport: Transport, directory: Directory, *, peer: str, seams: Seams, record: Record) -> None:
        super().__init__(transport, directory, peer=peer, seams=seams)
        self._record = record

    async def tell(self, message: Message) -> None:
        """Send a volatile request or event; an event is recorded even if nobody hears it."""
        self._record.add(message)
        await super().tell(message)


class RecordingTransport(FaultyTransport):
    """Does what the transport behind it does, and records it."""

    def __init__(self, inner: Transport, record: Record) -> None:
        super().__init__(inner)
        self._record = record
        self.direct: Direct = _RecordingDirect(self.direct, record)

    def send(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Store these, all or none; they are recorded when they are stored."""
        return self._stored(messages, super().send(messages))

    async def _stored(self, messages: Sequence[Outgoing], stored: Awaitable[None]) -> None:
        await stored
        for outgoing in messages:
            self._record.add(decode(outgoing.frame))

    def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> Awaitable[list[Delivery]]:
        """Say what became of deliveries; those that are parked are recorded."""
        for delivery, outcome in outcomes:
            if isinstance(outcome, Rejected) and outcome.state == "parked":
                self._record.parked.append((delivery.queue, outcome))
        return super().settle(outcomes)


class _RecordingDirect:
    def __init__(self, inner: Direct, record: Record) -> None:
        self.peer = inner.peer
        self._inner = inner
        self._record = record

    def listen(self, receive: Callable[[str, list[bytes]], None], lost: Callable[[str, list[bytes]], None]) -> None:
        self._inner.listen(receive, lost)

    def send(self, peer: str, frame: bytes) -> None:
        self._record.add(decode(frame))
        self._inner.send(peer, frame)
