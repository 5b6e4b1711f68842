"""What a seed stands for: who is there, what is asked and when, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.sim.network import GOOD, Weather
from tests.sim.services import Job

if TYPE_CHECKING:
    from posthouse.clock import Seconds
    from tests.sim.news import News


@dataclass
class Ask:
    """One request of a program.

    Attributes:
        at: when it is made.
        caller: the service that asks; "guest" has no store.
        verb: call or send.
        job: what is asked; its `to` says of whom.
        timeout: how long a call waits; 0 for the default.
        deadline: after which it need not be done, from then; 0 for none.
        cancel_at: when it is canceled; 0 for never.
        drop_at: when the task that calls is canceled; 0 for never.
        drop_after: after how many turns of the loop it is canceled; 0 for never.
    """

    at: Seconds
    caller: str
    verb: Literal["call", "send"]
    job: Job
    timeout: Seconds = 0.0
    deadline: Seconds = 0.0
    cancel_at: Seconds = 0.0
    drop_at: Seconds = 0.0
    drop_after: int = 0


@dataclass
class Tell:
    """One event that is published from outside of handlers.

    Attributes:
        at: when.
        publisher: the service.
        news: the event.
        named: it is published under an id of its own, so that the same one again is the same event.
    """

    at: Seconds
    publisher: str
    news: News
    named: bool = False


@dataclass
class Death:
    """A process dies at a point.

    Attributes:
        label: of the point, "prices decide after"; or empty, and then the point with the number `nth` of all.
        nth: the how many-th time that it is passed, from 1.
        power: all of its service die, and what was not flushed is lost.
        back: after so many seconds another one takes its place.
        is_seen: its siblings see that it is dead; else its lease has to run out.
    """

    label: str
    nth: int = 1
    power: bool = False
    back: Seconds = 1.0
    is_seen: bool = True


@dataclass
class Event:
    """Something goes wrong at a time.

    Attributes:
        at: when.
        what: wipe: the broker loses all. cut: a process cannot reach the broker. sever: two services cannot reach each
            other. power: the power is cut under a service. stop: a process ends in order, and comes back.
            freeze: a process takes no step. jump: the clock of a service jumps. backup: the store of a service is
            copied. restore: the processes of a service end, and come back with a copy that was made of its store.
        whom: the service.
        length: how long it lasts; of a jump, how far.
        which: of the copies of a store is put back, from 0; the newest if there are not so many.
    """

    at: Seconds
    what: Literal["wipe", "cut", "sever", "power", "stop", "freeze", "jump", "backup", "restore"]
    whom: str = ""
    length: Seconds = 1.0
    which: int = 1000


@dataclass
class Plan:
    """A whole life of a world.

    Attributes:
        seed: of everything that the plan leaves open.
        places: how many instances of each service.
        asks: what programs ask.
        deaths: who dies where.
        events: what else goes wrong.
        weather: of the network, until all heals.
        hears: replies to sends, and acks, are heard by handlers.
        heals_at: when everything heals.
        patience: so many seconds after that all must be at rest.
        concurrency: of each service.
        skew: how far the clocks of services are ahead.
        tells: what is published; services tell and hear events only where there is any.
        replays: when all has healed, every direct frame comes once more, from the first one on.
    """

    seed: int
    places: dict[str, int]
    asks: list[Ask] = field(default_factory=list[Ask])
    deaths: list[Death] = field(default_factory=list[Death])
    events: list[Event] = field(default_factory=list[Event])
    weather: Weather = GOOD
    hears: bool = False
    heals_at: Seconds = 10.0
    patience: Seconds = 300.0
    concurrency: int = 64
    skew: dict[str, Seconds] = field(default_factory=dict[str, float])
    tells: list[Tell] = field(default_factory=list[Tell])
    replays: bool = False
