"""A world: lives through a plan, then lets everything heal, and waits until it is at rest."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from posthouse.backends.memory import backend
from posthouse.backends.sqlite.store import MemoryDisk
from posthouse.errors import PosthouseError
from posthouse.runtime.seams import seeded_seams
from posthouse.runtime.settings import Settings
from posthouse.runtime.steps.intervening import replay
from posthouse.testing.loop import LoopClock
from tests.history.checker import Counts
from tests.history.events import Fault, Invoked, Recorder, Told, refused
from tests.sim.judge import left_in, open_tickets, read_everything
from tests.sim.network import GOOD, Network
from tests.sim.news import Ledger, judge_news, not_heard_yet, publish
from tests.sim.plans import Death
from tests.sim.posts import PointedStore, Post
from tests.sim.processes import OutsideTimers, Process, ProcessLoop, outside
from tests.sim.rows import Watch
from tests.sim.services import OPERATIONS, SCENE, Outside, Scene, services

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.clock import Seconds
    from posthouse.contracts.store import Books, Deceased
    from posthouse.message.message import Message
    from tests.history.events import Record
    from tests.sim.plans import Ask, Event, Plan, Tell

T = TypeVar("T")

STORED = ("shop", "prices", "stock")


class PlaceClock(LoopClock):
    """A clock that may be wrong, and may jump.

    Args:
        ahead: of the true time, in seconds.
    """

    def __init__(self, ahead: Seconds = 0.0) -> None:
        super().__init__()
        self.ahead = ahead

    def now(self) -> float:
        """Return what it thinks that the present moment is."""
        return super().now() + self.ahead


REPLAYS = 5
"""So often an operator has parked requests run again."""


def _replay_all(books: Books) -> None:
    for letter in books.dead_letters(limit=1000):
        if letter.state == "parked":
            replay(books, letter.number, now=letter.at)


def _then(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both


class Place:
    """Where one instance of a service runs, one life after another."""

    def __init__(self, service: str, number: int) -> None:
        self.service = service
        self.number = number
        self.lives = 0
        self.process: Process | None = None
        self.post: Post | None = None
        self.is_ready = False
        self.was_ready = False

    @property
    def store(self) -> PointedStore:
        """The store of the service, as this instance has it open."""
        assert self.post is not None
        return self.post.stores[0]


class World:
    """See the module.

    Attributes:
        lines: the trace, line by line.
        records: the history.
        passed: how often each point was passed, by label.
        died: the labels at which a process died.
        wrong: what was seen to be wrong.
        points: how many points were passed.
        sent: what runs of handlers have sent, as their tables say.
        refused: operations that were not done, as the books of those who asked say.
        letters: (service, dead letter) of all stores at the end.
        unclosed: lanes of earlier lives of each store that are not closed.
        orphans: (service, id, operation) of effects that nobody in the present stores has asked for.
        dropped: how many tasks of programs were canceled in the middle.
        rested: it came to rest.
        counts: how much there was of what, once it was judged.
        broker: the engine that all share.
        backups: of the stores, by service: when each was made, and what it holds.
        ledger: what was seen of events.
        heard: how many events took effect, once it was judged.
        clocks: what time it is, by service; the instances of one share a machine, and so a clock.
    """

    def __init__(self, plan: Plan, *, keep_trace: bool = False, watch: bool = True) -> None:
        self.plan = plan
        self.watches: dict[str, Watch] = {}
        self.lines: list[str] = []
        self.records: list[Record] = []
        self.passed: Counter[str] = Counter()
        self.died: list[str] = []
        self.wrong: list[str] = []
        self.points = 0
        self.sent: set[str] = set()
        self.refused: set[str] = set()
        self.unclosed: dict[str, list[int]] = {}
        self.letters: list[tuple[str, Deceased]] = []
        self.orphans: list[tuple[str, str, str]] = []
        self.dropped = 0
        self.rested = False
        self.heard = 0
        self.counts = Counts()
        self.name = f"sim-{plan.seed}"
        power = [death for death in plan.deaths if death.power] + [
            event for event in plan.events if event.what == "power"
        ]
        self.disk = MemoryDisk(self.name, power_cuts=bool(power))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ProcessLoop)
        self.loop = loop
        self.backups: dict[str, list[tuple[float, bytes]]] = {}
        self.network = Network(self, Random(f"network {plan.seed}"))
        self.ledger = Ledger()
        self.outside = Outside(self.ledger)
        self.places = [
            Place(service, number) for service, count in plan.places.items() for number in range(1, count + 1)
        ]
        self.clocks = {service: PlaceClock(plan.skew.get(service, 0.0)) for service in plan.places}
        self._recorder = Recorder("world", self.records.append, now=self.loop.time)
        self._digest = hashlib.sha256()
        self._keep_trace = keep_trace
        self._dice = Random(f"world {plan.seed}")
        self._is_watched = watch
        self._healed = False
        self._lives = 0
        self._replays = 0

    # --- what happened ------------------------------------------------------------------------------------

    def trace(self, process: Process | None, *words: object) -> None:
        """Write a line."""
        line = " ".join([f"{self.loop.time():.6f}", "world" if process is None else process.name, *map(str, words)])
        self._digest.update(line.encode())
        if self._keep_trace:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """What two traces have in common if they are the same."""
        return self._digest.hexdigest()

    def note(self, process: Process | None, record: Record) -> None:
        """Keep a record, unless it is of somebody who is dead."""
        if process is None or not process.is_dead:
            record.by = record.by or ("world" if process is None else process.name)
            self._recorder.note(record)
            self.trace(process, "notes", record)

    # --- points ---------------------------------------------------------------------------------------------

    def point(self, process: Process, what: str, side: str) -> None:
        """A process passes a point: it may die here."""
        if process.is_dead or self._healed:
            return
        self.points += 1
        label = f"{process.service} {what} {side}"
        self.passed[label] += 1
        for death in self.plan.deaths:
            reached = self.passed[label] if death.label == label else self.points if not death.label else 0
            if reached == death.nth:
                self.died.append(label)
                self.kill(process, death, label)
                return

    def watched(self, process: Process, name: str, step: Callable[[Books], T]) -> Callable[[Books], T]:
        """Return a step whose changes are looked at."""
        return self.watches[process.service].watched(name, step) if self.watches else step

    def watch_leaving(self, process: Process, message: Message) -> None:
        """Look at a message that leaves."""
        if process.service in self.watches:
            self.watches[process.service].leaves(message)

    def failed(self, process: Process) -> None:
        """A step has failed, so that what was written may have been rolled back."""
        if process.service in self.watches:
            self.watches[process.service].forget()

    def _watch(self) -> None:
        for service in self.services():
            watch = self.watches[service] = Watch(service, self.wrong.append)
            database: Any = self.disk.database(service)
            database.flush = _then(database.flush, watch.flushed)

    # --- life and death ---------------------------------------------------------------------------------------

    def kill(self, process: Process, death: Death, label: str) -> None:
        """Let a process die now."""
        self.trace(process, "dies", label, "with the power" if death.power else "")
        victims = [process]
        if death.power:
            victims = [p.process for p in self.places if p.service == process.service and p.process is not None]
            self.note(None, Fault(kind="power cut", what=process.service))
        for victim in victims:
            self._end(victim, death)
        if death.power:
            self.disk.power_cut(process.service)
        self.failed(process)

    def _back_up(self, service: str) -> None:
        """Copy what a store has committed."""
        database: Any = self.disk.database(service)
        self.backups.setdefault(service, []).append((self.loop.time(), database.committed()))

    def _restore(self, service: str, event: Event) -> None:
        """Put a copy of a store back; whoever opens it begins a new life of it."""
        copies = self.backups.get(service)
        if not copies:
            return
        at, copy = copies[min(event.which, len(copies) - 1)]
        self.note(None, Fault(kind="restore", what=service, backup_at=at))
        for place in self.places:
            if place.service == service and place.process is not None:
                self._end(place.process, Death("", back=event.length))
        database: Any = self.disk.database(service)
        database._flushed = copy
        database.power_cut()
        database.connection.execute("UPDATE posthouse_store SET machine = 'backup'")
        database._flushed = database.connection.serialize("main")
        for watch in self.watches.values():
            watch.is_strict = False
        if service in self.watches:
            self.watches[service].put_back()

    def _end(self, process: Process, death: Death) -> None:
        if process.is_dead or process.is_closed:
            return
        place = next(place for place in self.places if place.process is process)
        self.note(None, Fault(kind="kill", what=process.name))
        process.die()
        place.is_ready = False
        if place.post is not None:
            place.post.die(is_seen=death.is_seen)
        place.process = place.post = None
        if not self._healed:
            self.loop.call_later(death.back, self._start, place, context=outside())

    def _start(self, place: Place) -> None:
        if place.process is not None:
            return
        place.lives += 1
        self._lives += 1
        process = place.process = Process(place.service, place.number, place.lives)
        seams = seeded_seams(self.plan.seed * 1_000_003 + self._lives * 1009, clock=self.clocks[place.service])
        self.trace(process, "starts")
        process.spawn(self._live(place, process, seams), f"life of {process}")

    async def _live(self, place: Place, process: Process, seams: Any) -> None:
        settings = Settings(env="test", transport=f"memory:{self.name}")
        post = place.post = Post(settings, seams=seams, process=process, world=self)
        SCENE.set(Scene(process.name, lambda record: self.note(process, record), self.outside))
        plan = self.plan
        declared = services(hears=plan.hears, concurrency=plan.concurrency, tells=bool(plan.tells))
        failures = 0
        while True:
            try:
                await post.open()
                if place.service != "guest":
                    await post.serve(declared[place.service])
                break
            except PosthouseError as error:
                failures += 1
                self.trace(process, "cannot start", error)
                if failures > 100:
                    raise
                await post.close()
                await asyncio.sleep(1.0)
        place.is_ready = True
        place.was_ready = True
        if all(each.was_ready for each in self.places if each.service == place.service):
            self.ledger.ready.setdefault(place.service, self.loop.time())
        self.trace(process, "is ready")

    async def _stop(self, place: Place) -> None:
        """End a process in order."""
        process, post = place.process, place.post
        if process is None or post is None or not place.is_ready:
            return
        place.is_ready = False
        self.trace(process, "stops")
        closing = process.spawn(post.close(), f"end of {process}")
        await asyncio.wait({closing, process.gone}, return_when=asyncio.FIRST_COMPLETED)
        if process.is_dead:
            return
        await closing
        process.is_closed = True
        if place.process is process:
            place.process = place.post = None

    # --- programs -------------------------------------------------------------------------------------------

    async def _ask(self, ask: Ask) -> None:
        """Make one request, from whichever instance of the caller is there."""
        await asyncio.sleep(ask.at)
        place = await self._someone(ask.caller)
        process = place.process
        assert process is not None
        asking = process.spawn(self._ask_here(place, process, ask), f"program {ask.job.op}")
        if ask.drop_at:
            self.loop.call_later(max(0.0, ask.drop_at - self.loop.time()), asking.cancel, context=outside())
        if ask.drop_after:
            for _ in range(ask.drop_after):
                await asyncio.sleep(0)
            asking.cancel()
        asking.add_done_callback(self._count_dropped)
        if ask.cancel_at:
            await asyncio.sleep(max(0.0, ask.cancel_at - self.loop.time()))
            other = await self._someone(ask.caller)
            if other.process is not None:
                other.process.spawn(self._cancel(other, ask), f"cancel {ask.job.op}")

    def _count_dropped(self, asking: asyncio.Task[None]) -> None:
        self.dropped += asking.cancelled()

    async def _someone(self, service: str) -> Place:
        while True:
            ready = [place for place in self.places if place.service == service and place.is_ready]
            if ready:
                return self._dice.choice(ready)
            await asyncio.sleep(0.2)

    async def _ask_here(self, place: Place, process: Process, ask: Ask) -> None:
        assert place.post is not None
        job = ask.job
        client = place.post.client(ask.caller)
        operation = OPERATIONS[job.to]
        service = job.to.partition(".")[0]
        has_store = ask.caller != "guest"
        applies = self.plan.hears and ask.verb == "send" and has_store and ask.caller == "shop" and service == "prices"
        if job.effect == "row":
            self.note(
                process,
                Invoked(job.op, caller=ask.caller if has_store else "", service=service, key=job.key, applies=applies),
            )
        try:
            if ask.verb == "call":
                done = await client.call(
                    operation, job, id=job.op, timeout=ask.timeout or "30s", deadline=ask.deadline or None
                )
                told = Told(job.op, "done", done.value, echo=done.op)
            else:
                await client.send(operation, job, id=job.op, deadline=ask.deadline or None)
                told = Told(job.op, "stored")
        except PosthouseError as error:
            told = refused(job.op, error)
        if job.effect == "row":
            self.note(process, told)
        else:
            self.trace(process, "was told", told)

    async def _tell(self, tell: Tell) -> None:
        """Publish an event, from whichever instance of the publisher is there."""
        await asyncio.sleep(tell.at)
        place = await self._someone(tell.publisher)
        assert place.process is not None
        place.process.spawn(publish(place, tell, self.ledger), f"program {tell.news.op}")

    async def _cancel(self, place: Place, ask: Ask) -> None:
        assert place.post is not None
        try:
            await place.post.client(ask.caller).cancel(ask.job.op)
        except PosthouseError as error:
            self.trace(place.process, "cancels in vain", ask.job.op, error.code)

    # --- what goes wrong --------------------------------------------------------------------------------------

    async def _happen(self, event: Event) -> None:
        await asyncio.sleep(event.at)
        if self._healed:
            return
        self.trace(None, event.what, event.whom, event.length)
        here = [place for place in self.places if place.service == event.whom and place.process is not None]
        match event.what:
            case "wipe":
                self.note(None, Fault(kind="wipe", what="broker"))
                self.broker.wipe()
            case "cut":
                for place in here[:1]:
                    await self._cut(place, event.length)
            case "sever":
                pair = frozenset(event.whom.split())
                self.network.severed.add(pair)
                await asyncio.sleep(event.length)
                self.network.severed.discard(pair)
            case "power":
                for place in here[:1]:
                    if place.process is not None:
                        self.kill(place.process, Death("", power=True, back=event.length), "at a time")
            case "stop":
                for place in here[:1]:
                    await self._stop(place)
                    await asyncio.sleep(event.length)
                    self._start(place)
            case "freeze":
                for place in here[:1]:
                    await self._freeze(place, event.length)
            case "backup":
                self._back_up(event.whom)
            case "restore":
                self._restore(event.whom, event)
            case "jump":
                self.clocks[event.whom].ahead += event.length

    async def _freeze(self, place: Place, length: Seconds) -> None:
        process = place.process
        if process is None:
            return
        process.freeze()
        await asyncio.sleep(length)
        if process.is_frozen:
            process.thaw()

    async def _cut(self, place: Place, length: Seconds) -> None:
        post = place.post
        if post is None:
            return
        self.note(None, Fault(kind="cut", what=str(place.process)))
        post.transport.cut()
        await asyncio.sleep(length)
        if place.post is post:
            post.transport.heal()

    # --- a whole life -----------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Live through the plan, heal, and come to rest."""
        with self.disk:
            if self._is_watched:
                self._watch()
            ground, registry = backend(self.name, peer="ground", clock=LoopClock())
            await ground.open()
            await registry.open()
            self.broker: Any = ground._broker
            self.broker.stock.alarms.loop = OutsideTimers(self.loop)
            for place in self.places:
                self._start(place)
            self.network.weather = self.plan.weather
            if self.plan.replays:
                self.network.kept = []
            programs = [self.loop.create_task(self._ask(ask)) for ask in self.plan.asks]
            programs += [self.loop.create_task(self._tell(tell)) for tell in self.plan.tells]
            events = [self.loop.create_task(self._happen(event)) for event in self.plan.events]
            await asyncio.sleep(self.plan.heals_at)
            await self._heal()
            async with asyncio.timeout(self.plan.patience):
                await asyncio.gather(*programs, *events)
            self.rested = await self._rest()
            if self.plan.replays:
                self.network.replay(within=1.0)
                await asyncio.sleep(1.0)
                self.rested = await self._rest()
            await self.look()
            await self._tell_everybody()
            closed = [place.process for place in self.places if place.process is not None]
            for place in self.places:
                self.wrong += open_tickets(place)
                await self._stop(place)
            left = [task for process in closed for task in process.tasks if not task.done()]
            self.wrong += [f"{task} was left behind" for task in left]
            await registry.close()
            await ground.close()

    async def _heal(self) -> None:
        self._healed = True
        self.trace(None, "heals")
        self.network.weather = GOOD
        self.network.severed.clear()
        for place in self.places:
            if place.process is None:
                self._start(place)
            elif place.post is not None and not place.process.is_dead:
                place.post.transport.heal()
                if place.process.is_frozen:
                    place.process.thaw()
        while not all(place.is_ready for place in self.places):
            await asyncio.sleep(0.1)

    async def _rest(self) -> bool:
        until = self.loop.time() + self.plan.patience
        while self.loop.time() < until:
            if await self.is_at_rest():
                return True
            await asyncio.sleep(0.5)
        return False

    async def _tell_everybody(self) -> None:
        """Wait until nobody waits any more: for what a sibling was told, an instance looks every two seconds."""
        until = self.loop.time() + 5.0
        while self.loop.time() < until and any(map(open_tickets, self.places)):
            await asyncio.sleep(0.5)

    async def is_at_rest(self) -> bool:
        """Say whether no store has anything to do; what is parked is run again, as an operator would have it."""
        all_left = [await left_in(self, service) for service in self.services()]
        for left in all_left:
            if left.parked and self._replays < REPLAYS:
                self._replays += 1
                self.trace(None, "replays", left.store, *left.parked)
                await self.someone_of(left.store).store.commit(_replay_all, name="replay", flush=True)
                return False
        parked = sum(len(left.parked) for left in all_left)  # for ever, where what it asked is unknown for ever
        if sum(left.open for left in all_left) > parked:
            return False
        if not parked and any(self.unclosed.values()):
            return False
        if any(left.held > len(left.parked) for left in all_left):
            return False
        return not self.plan.tells or not await not_heard_yet(self)

    def services(self) -> list[str]:
        """Return the services that have stores."""
        return [service for service in self.plan.places if service in STORED]

    def someone_of(self, service: str) -> Place:
        """Return an instance that is ready."""
        return next(place for place in self.places if place.service == service and place.is_ready)

    async def look(self) -> None:
        """Read everything that there is to be judged."""
        await read_everything(self)
        if self.plan.tells:
            self.wrong += await judge_news(self)
            self.wrong += await not_heard_yet(self)
