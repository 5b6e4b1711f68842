"""Processes within one loop: each has its own tasks and timers, and when it dies none of them takes another step.

Whose a task or a timer is says the context in which it was made. What belongs to nobody (the broker, the disk, the
network) runs in the context `outside`, and outlives everybody.
"""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from weakref import WeakSet

from posthouse.testing.loop import SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

_PROCESS: Final[ContextVar[Process | None]] = ContextVar("process", default=None)
Held: TypeAlias = "tuple[Context, Callable[..., object], tuple[Any, ...]]"
"""Something that was due: its context, and what was to be called."""

_OUTSIDE: Final = Context()

_ROUNDS: Final = 20
_TURNS: Final = 20
"""When a world is over, what its dead processes left is canceled so often, and has so many turns to end."""


class Process:
    """A process.

    Args:
        service: what it runs.
        number: which of the instances of the service it is.
        life: the how many-th one in this place; each restart is another one.

    Attributes:
        name: "prices.1/2".
        is_dead: nothing of it happens any more.
        is_closed: it has ended in order.
        is_frozen: nothing of it happens for a while.
        held: what was due meanwhile.
        tasks: what it has begun; weak, as the loop's own are.
        gone: done when it is dead.
        left: what had not ended when it died; held, since what is thrown away in the middle runs its `finally`.
    """

    def __init__(self, service: str, number: int, life: int) -> None:
        self.service = service
        self.number = number
        self.name = f"{service}.{number}/{life}"
        self.is_dead = False
        self.is_closed = False
        self.is_frozen = False
        self.held: list[Held] = []
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.left: list[asyncio.Task[Any]] = []
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._context = Context()
        self._context.run(_PROCESS.set, self)

    def __repr__(self) -> str:
        return self.name

    def freeze(self) -> None:
        """Take no step for a while, as a process that is stopped, or whose machine is."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Go on where it was."""
        self.is_frozen = False
        held, self.held = self.held, []
        for context, callback, args in held:
            asyncio.get_running_loop().call_soon(callback, *args, context=context)

    def die(self) -> None:
        """Take no step any more."""
        self.is_dead = True
        self.left = list(self.tasks)
        if not self.gone.done():
            self.gone.set_result(None)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something as this process."""
        return self._context.copy().run(function, *arguments)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task of this process."""
        return asyncio.get_running_loop().create_task(coroutine, name=name, context=self._context.copy())


def outside() -> Context:
    """Return a context that belongs to no process."""
    return _OUTSIDE.copy()


class ProcessLoop(SimulatedLoop):
    """A simulated loop that knows whose each step is, and takes none for the dead.

    Attributes:
        unhandled: what no task and no callback has caught.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unhandled: list[str] = []
        self.set_exception_handler(self._note)
        self._unwinding = False
        self._not_taken: list[Held] = []

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        """Call back in the next turn, if the process of the context lives then."""
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        context = context or copy_context()
        return super().call_soon(self._step, process, context, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at a time, if the process of the context lives then."""
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        context = context or copy_context()
        return super().call_at(when, self._ring, process, context, callback, *args, context=context)

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> asyncio.Task[Any]:
        """Start a task of the context's process."""
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        task = super().create_task(coro, name=None if name is None else str(name), context=context)
        if process is not None:
            process.tasks.add(task)
            if process.is_dead:
                process.left.append(task)
        return task

    def unwind(self) -> None:
        """Let the tasks that are left run out, so that none is thrown away in the middle; their seams are dead."""
        self._unwinding = True
        for context, callback, args in self._not_taken:  # a task that missed its step could not be canceled
            self.call_soon(callback, *args, context=context)
        for _ in range(_ROUNDS):
            left = asyncio.all_tasks(self)
            if not left:
                return
            for task in left:
                task.cancel()
            self._run_turns(_TURNS)

    def _run_turns(self, count: int) -> None:
        def turn(left: int) -> None:
            if left:
                self.call_soon(turn, left - 1, context=outside())
            else:
                self.stop()

        turn(count)
        self.run_forever()

    def _step(self, process: Process, context: Context, callback: Callable[..., object], *args: Any) -> None:
        if process.is_frozen and not process.is_dead:
            process.held.append((context, callback, args))
        elif not process.is_dead or self._unwinding:
            callback(*args)
        else:
            self._not_taken.append((context, callback, args))

    def _ring(self, process: Process, context: Context, callback: Callable[..., object], *args: Any) -> None:
        if process.is_frozen:
            process.held.append((context, callback, args))
        elif not process.is_dead:
            callback(*args)

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._unwinding:
            self.unhandled.append(f"{context.get('message')}: {context.get('exception')!r}")


class OutsideTimers:
    """As much of a loop as the broker's alarms use; what they set belongs to no process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_soon(self, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        """Call back in the next turn."""
        return self._loop.call_soon(callback, *args, context=outside())

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call back after a while."""
        return self._loop.call_later(delay, callback, *args, context=outside())


def live(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of processes, and return its result.

    Raises:
        StuckError: it waits for what can never come.
    """
    loop = ProcessLoop()
    try:
        return loop.run_until_complete(loop.create_task(main, context=outside()))
    finally:
        loop.unwind()
        loop.close()
