"""The journals of a process: opened for the services that need a store here, when they first do."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from posthouse.backends import open_store, store_is_there
from posthouse.errors import NotDurableError, StoreForeignError
from posthouse.message.message import Kind
from posthouse.runtime.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from posthouse.contracts.store import Store
    from posthouse.contracts.transport import Transport
    from posthouse.message.message import Message
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settings import Settings
    from posthouse.runtime.settler import Settler

_log: Final = logging.getLogger("posthouse.journal")


class OpenJournals:
    """All journals of one host; see runtime.parts.Journals."""

    def __init__(
        self,
        settings: Settings,
        *,
        transport: Transport,
        directory: Directory,
        settler: Settler,
        seams: Seams,
        peer: str,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._directory = directory
        self._settler = settler
        self._seams = seams
        self._peer = peer
        self._allowed: dict[str, tuple[str, Sequence[str]]] = {}
        self._open: dict[str, Journal] = {}
        self._by_store: dict[str, Journal] = {}
        self._opening = asyncio.Lock()
        transport.on_reset(self._wiped)

    def allow(self, service: str, *, store: str | None = None, schema: Sequence[str] = ()) -> None:
        """Let a service have a store here, from the first time that it needs one.

        Args:
            service: its name.
            store: the URL of the store; None for that of the settings.
            schema: the user's own SQL scripts.
        """
        before, scripts = self._allowed.get(service, (self._settings.stores, ()))
        self._allowed[service] = (store or before, schema or scripts)

    def get(self, service: str) -> Journal | None:
        """Return the journal of a service, if it is open."""
        return self._open.get(service)

    async def need(self, service: str) -> Journal | None:
        """Return the journal of a service, and open it; None for a caller that has no store.

        Raises:
            StoreForeignError: other instances of the service have another store.
            NotDurableError: the store keeps nothing, and this is no test.
            ConfigError: the place for the data cannot be used.
            UnavailableError: the store cannot be used now.
        """
        journal = self._open.get(service)
        if journal is not None or service not in self._allowed:
            return journal
        async with self._opening:
            journal = self._open.get(service)
            if journal is None:
                journal = await self._opened(service)
        return journal

    async def resume(self, service: str) -> None:
        """Open the journal of a service whose store is there: an earlier process may have left work in it."""
        url, _ = self._allowed[service]
        if await asyncio.to_thread(store_is_there, url, service=service):
            await self.need(service)

    def of_store(self, store: str) -> Journal | None:
        """Return the journal whose store has this id."""
        return self._by_store.get(store)

    def lost(self, peer: str) -> None:
        """A peer went away."""
        for journal in self._open.values():
            journal.lost(peer)

    def arrived(self, arrived: Iterable[tuple[str, str, Message, bytes]]) -> None:
        """Take in journaled messages: (service, store) for whom, message, frame; an event is for all who hear it.

        Those for nobody here are dropped.
        """
        by_journal: dict[Journal, list[tuple[Message, bytes]]] = {}
        for service, store, message, frame in arrived:
            if message.kind is Kind.EVENT:
                for journal in self._open.values():
                    if message.type in journal.here.subscriptions:
                        by_journal.setdefault(journal, []).append((message, frame))
                continue
            journal = self._by_store.get(store) if store else self._open.get(service)
            if journal is not None:
                by_journal.setdefault(journal, []).append((message, frame))
        for journal, some in by_journal.items():
            journal.arrived(some)

    async def close(self) -> None:
        """Close all of them."""
        journals, self._open = list(self._open.values()), {}
        self._by_store = {}
        for journal in journals:
            await journal.close()

    def _wiped(self) -> None:
        for journal in self._open.values():
            journal.transport_was_wiped()

    async def _opened(self, service: str) -> Journal:
        url, schema = self._allowed[service]
        if url.startswith("memory:") and self._settings.env != "test":
            raise NotDurableError(f"the store of {service} would be {url!r}, which keeps nothing when its process ends")
        store = self._make(url, service)
        await store.open(schema=schema)
        try:
            self._must_be_ours(service, store)
            journal = Journal(
                store,
                service,
                transport=self._transport,
                directory=self._directory,
                settler=self._settler,
                seams=self._seams,
                peer=self._peer,
                may_rebind=self._settings.env != "prod",
            )
            await journal.open()
        except BaseException:
            await store.close()
            raise
        self._open[service] = journal
        self._by_store[store.identity.id] = journal
        return journal

    def _make(self, url: str, service: str) -> Store:
        seams = self._seams
        return open_store(url, service=service, instance=self._peer, clock=seams.clock, new_id=seams.new_id)

    def _must_be_ours(self, service: str, store: Store) -> None:
        for instance in self._directory.present.get(service, ()):
            if instance.store and instance.store != store.identity.id:
                raise StoreForeignError(
                    f"{service} runs on {instance.host} (process {instance.pid}) with another store than the one here:"
                    f" {instance.store[:8]}..., and here it is {store.identity.id[:8]}..."
                )
