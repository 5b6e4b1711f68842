"""The same two doors for code that blocks: plain `def` handlers, Flask, Django, scripts.

A SyncClient has a loop of its own in a thread, started at its first use, and anew after a fork: so
it may stand at module level under a server that forks its workers.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self, TypeVar

from posthouse.errors import UsageError
from posthouse.runtime.context import SyncContext, SyncTransaction

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from posthouse.clock import Duration
    from posthouse.declare.operation import Event, Operation
    from posthouse.declare.service import Service
    from posthouse.runtime.client import Client
    from posthouse.runtime.context import Priority

__all__ = ["SyncClient", "SyncContext", "SyncTransaction", "connect"]

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_T = TypeVar("_T")


class SyncClient:
    """Sends and asks in the name of a service, and blocks until it is done; made by `connect`."""

    def __init__(self, service: Service | str, how: Mapping[str, Any]) -> None:
        self._service = service
        self._how = how
        self._starting = threading.Lock()
        self._of_parents: list[Any] = []
        if hasattr(os, "register_at_fork"):
            forked = weakref.WeakMethod(self._forked)
            os.register_at_fork(after_in_child=lambda: (method := forked()) and method())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stack = AsyncExitStack()
        self._client: Client | None = None

    def call(
        self,
        op: Operation[_Req, _Rep],
        data: _Req,
        /,
        *,
        timeout: Duration | None = "30s",
        deadline: Duration | datetime | None = None,
        priority: Priority = "normal",
        id: str | None = None,
    ) -> _Rep:
        """Ask a service, and return its reply; see Client.call."""
        client = self._started()
        return self._run(client.call(op, data, timeout=timeout, deadline=deadline, priority=priority, id=id))

    def send(
        self,
        op: Operation[_Req, Any],
        data: _Req,
        /,
        *,
        deadline: Duration | datetime | None = None,
        delay: Duration = 0,
        at: datetime | None = None,
        priority: Priority = "normal",
        id: str | None = None,
        within: object = None,
    ) -> str:
        """Store a request that nobody waits for, and return its id; see Client.send."""
        client = self._started()
        return self._run(
            client.send(op, data, deadline=deadline, delay=delay, at=at, priority=priority, id=id, within=within)
        )

    def publish(self, event: Event[_T], data: _T, /, *, id: str | None = None, within: object = None) -> None:
        """Tell every subscription of an event of this service; see Client.publish."""
        self._run(self._started().publish(event, data, id=id, within=within))

    def cancel(self, id: str, /, *, within: object = None) -> None:
        """Ask that a request sent earlier is not done; not in this version."""
        self._run(self._started().cancel(id, within=within))

    def reply(self, op: Operation[Any, _Rep], id: str, /, *, timeout: Duration | None = "30s") -> _Rep:
        """Wait again for the reply to an earlier request; not in this version."""
        return self._run(self._started().reply(op, id, timeout=timeout))

    def close(self) -> None:
        """Drain what is served, and end the thread; the next use starts anew."""
        with self._starting:
            if self._loop is None:
                return
            if threading.current_thread() is self._thread:
                raise _in_its_own_loop()
            try:
                self._run(self._stack.aclose())
            finally:
                self._end_thread()

    def __enter__(self) -> Self:
        self._started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        loop = self._loop
        if loop is None or threading.current_thread() is self._thread:
            coroutine.close()
            raise _in_its_own_loop()
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # of no use if it raised; but who was interrupted (Ctrl-C) waits no longer
            raise

    def _started(self) -> Client:
        client = self._client
        if client is not None:
            return client
        with self._starting:
            if self._client is not None:
                return self._client
            from posthouse.runtime.start import connect as connect_async

            self._stack = AsyncExitStack()
            self._loop = loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=loop.run_forever, name="posthouse", daemon=True)
            self._thread.start()
            try:
                client = self._run(self._stack.enter_async_context(connect_async(self._service, **self._how)))
            except BaseException:
                self._end_thread()
                raise
            self._client = client
            atexit.register(self.close)
            return client

    def _forked(self) -> None:
        """In a child process: forget what the parent has, which is not ours to use, to close or to let go of."""
        self._of_parents.append((self._loop, self._thread, self._stack, self._client))
        self._client = self._loop = self._thread = None
        self._starting = threading.Lock()  # a thread that held it did not come along

    def _end_thread(self) -> None:
        loop, thread = self._loop, self._thread
        self._client = self._loop = self._thread = None
        atexit.unregister(self.close)
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def _in_its_own_loop() -> UsageError:
    return UsageError("a SyncClient blocks, so it cannot be used in its own loop; use posthouse.connect there")


def connect(
    service: Service | str,
    *,
    serve: bool = False,
    transport: str | None = None,
    store: object = None,
    config: Path | Mapping[str, Any] | None = None,
) -> SyncClient:
    """Return a client that blocks; nothing is opened before its first use. See posthouse.connect."""
    return SyncClient(service, {"serve": serve, "transport": transport, "store": store, "config": config})
