"""Plans by chance: the same seed is the same plan, for ever (until this file changes)."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.sim.network import GOOD, Weather
from tests.sim.plans import Ask, Death, Event, Plan
from tests.sim.services import Job

KEYS: Final = ("tea", "milk")

BUSY: Final = 3.0
"""Seconds in which programs ask; later they only wait."""


def plan_of(seed: int) -> Plan:
    """Return the plan of a seed."""
    rng = Random(f"plan {seed}")
    places = {"shop": rng.choice((1, 1, 2)), "prices": rng.choice((1, 2, 2))}
    if rng.random() < 0.4:
        places["stock"] = 1
    if rng.random() < 0.25:
        places["guest"] = 1
    plan = Plan(seed, places, hears=rng.random() < 0.4, concurrency=rng.choice((1, 3, 64)))
    plan.asks = sorted((_ask(rng, number, places) for number in range(rng.randint(4, 14))), key=lambda ask: ask.at)
    plan.asks += [_again(rng, ask) for ask in plan.asks if rng.random() < (0.6 if ask.caller == "guest" else 0.1)]
    plan.weather = weather(rng)
    plan.deaths = [death(rng, len(plan.asks)) for _ in range(rng.choice((0, 1, 1, 2, 2, 3)))]
    plan.events = [_event(rng, places) for _ in range(rng.choice((0, 0, 1, 1, 2)))]
    plan.heals_at = rng.uniform(3.0, 7.0)
    return plan


def plan_with_restores(seed: int) -> Plan:
    """Return the plan of a seed in which stores are put back as well."""
    plan = plan_of(seed)
    rng = Random(f"restores {seed}")
    stores = [service for service in plan.places if service != "guest"]
    for whom in rng.sample(stores, rng.choice((1, 1, 2)) if len(stores) > 1 else 1):
        at = rng.uniform(0.0, BUSY)
        plan.events.append(Event(at, "backup", whom))
        for _ in range(rng.choice((1, 1, 1, 2))):
            at += rng.choice((0.001, 0.1, 1.0, 2.0)) * rng.uniform(0.5, 1.5)
            plan.events.append(Event(at, "restore", whom, rng.choice((0.01, 0.3, 1.0))))
            if rng.random() < 0.3:
                plan.events.append(Event(at + rng.uniform(0.0, 1.0), "backup", whom))
    # Whoever asks again under an id that a restored store has forgotten has asked for something new.
    seen: set[str] = set()
    plan.asks = [ask for ask in plan.asks if ask.caller == "guest" or not (ask.job.op in seen or seen.add(ask.job.op))]
    plan.heals_at += 3.0
    # Who never speaks again hears of no restore: all that ask others do so once more.
    asks = [Job("last.0", to="stock.do")] if "stock" in plan.places else []
    plan.asks.append(Ask(plan.heals_at + 1.0, "shop", "call", Job("last", to="prices.do", asks=asks)))
    return plan


def _ask(rng: Random, number: int, places: dict[str, int]) -> Ask:
    caller = "guest" if "guest" in places and rng.random() < 0.3 else "shop"
    at = rng.uniform(0.0, BUSY) if rng.random() < 0.7 else rng.choice((0.5, 1.0, 2.0))
    job = _job(rng, f"op{number}", "prices", places, depth=0 if caller == "guest" else 1)
    verb = rng.choice(("call", "call", "send"))
    ask = Ask(at, caller, verb, job)
    if caller == "guest":
        job.no = ""
        job.effect = "row"
        return ask
    if verb == "send":
        ask.job.effect = "row"
    if rng.random() < 0.15:
        ask.timeout = rng.choice((0.05, 0.5, 2.0))
    if rng.random() < 0.1:
        ask.deadline = rng.choice((0.001, 0.3, 3.0))
    if rng.random() < 0.15 and not (verb == "send" and job.key):  # unsent, nobody would hear of it
        ask.cancel_at = at + rng.choice((0.0001, 0.1, 1.0))
    if rng.random() < 0.15:
        ask.drop_at = at + rng.choice((0.00001, 0.01, 0.5))
    return ask


def _again(rng: Random, ask: Ask) -> Ask:
    """Return the same request once more, under the same id."""
    return Ask(ask.at + rng.choice((0.0, 0.5, 3.0)), ask.caller, ask.verb, ask.job, timeout=ask.timeout)


def _job(rng: Random, op: str, service: str, places: dict[str, int], *, depth: int) -> Job:
    job = Job(op, to=f"{service}.do")
    if rng.random() < 0.3:
        job.to, job.key = f"{service}.keyed", rng.choice(KEYS)
    job.slow = rng.choice((0.0, 0.0, 0.0, 0.01, 0.3, 2.0))
    job.hold = rng.choice((0.0, 0.0, 0.0, 0.0, 0.02))
    job.fails = rng.choice((0, 0, 0, 0, 1, 2))
    if depth and rng.random() < 0.15:
        job.no = rng.choice(("raised", "returned"))
    if depth and not job.key and rng.random() < 0.1:
        job.effect = "id"
    if depth and "stock" in places and rng.random() < 0.5:
        inner = [_job(rng, f"{op}.{n}", "stock", places, depth=0) for n in range(rng.choice((1, 2, 2)))]
        for each in inner[1:]:  # two keys in one handler's hands can wait for each other
            each.to, each.key = "stock.do", ""
        if rng.random() < 0.3:
            job.sends = inner
        else:
            job.asks = inner
            job.together = rng.random() < 0.5
            job.timeout = rng.choice((0.0, 0.0, 0.2))
    return job


def weather(rng: Random) -> Weather:
    if rng.random() < 0.4:
        return GOOD
    return Weather(
        loss=rng.choice((0.0, 0.0, 0.1, 0.3)),
        twice=rng.choice((0.0, 0.2, 0.5)),
        late=rng.choice((0.0, 0.2, 0.5, 1.0)),
        delay=rng.choice((0.01, 0.5, 3.0)),
        silent=rng.random() < 0.3,
    )


def death(rng: Random, asks: int) -> Death:
    return Death(
        "",
        rng.randint(1, 40 * asks),
        power=rng.random() < 0.3,
        back=rng.choice((0.01, 0.3, 1.0, 4.0)),
        is_seen=rng.random() < 0.85,
    )


def _event(rng: Random, places: dict[str, int]) -> Event:
    whom = rng.choice([service for service in places if service != "guest"])
    at, length = rng.uniform(0.1, BUSY), rng.choice((0.1, 1.0, 3.0))
    what = rng.choice(("wipe", "cut", "sever", "power", "stop", "stop", "freeze", "freeze", "jump"))
    if what == "freeze":
        length = rng.choice((0.3, 3.0, 20.0))  # the last one is longer than a lease
    if what == "jump":
        whom, length = "shop", rng.choice((3600.0, 20.0, -1.0))
    if what == "sever":
        whom = rng.choice(("shop prices", "prices stock"))
    if what == "wipe" and "guest" in places:
        what = "cut"  # what nobody keeps may be lost with the broker
    return Event(at, what, whom, length)
