"""Plans by chance in which events are told; the same seed is the same plan (until this file or chance.py changes)."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.sim import chance
from tests.sim.news import News
from tests.sim.plans import Ask, Event, Plan, Tell
from tests.sim.services import Job

SLOW: Final = (0.0, 0.0, 0.0, 0.01, 0.3, 2.0)


def news_plan_of(seed: int) -> Plan:
    """Return the plan of a seed."""
    rng = Random(f"news {seed}")
    places = {"shop": rng.choice((1, 1, 2)), "prices": rng.choice((1, 1, 2)), "stock": rng.choice((1, 2))}
    plan = Plan(seed, places, concurrency=rng.choice((1, 3, 64)))
    plan.tells = [_tell(rng, number) for number in range(rng.randint(3, 12))]
    plan.tells += [
        Tell(tell.at + rng.choice((0.0, 0.5, 3.0)), tell.publisher, tell.news, named=True)
        for tell in plan.tells
        if tell.named and rng.random() < 0.5
    ]
    plan.asks = [_ask(rng, number) for number in range(rng.randint(0, 5))]
    plan.weather = chance.weather(rng)
    plan.deaths = [chance.death(rng, 2 * len(plan.tells)) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    plan.events = [_event(rng, places) for _ in range(rng.choice((0, 0, 1, 1, 2, 3)))]
    plan.heals_at = rng.uniform(3.0, 7.0)
    return plan


def _tell(rng: Random, number: int) -> Tell:
    at = rng.uniform(0.0, chance.BUSY) if rng.random() < 0.7 else rng.choice((0.5, 1.0, 2.0))
    news = News(f"n{number}", fails=rng.choice((0, 0, 0, 1, 2, 4)), slow=rng.choice(SLOW))
    return Tell(at, rng.choice(("prices", "prices", "shop")), news, named=rng.random() < 0.3)


def _ask(rng: Random, number: int) -> Ask:
    job = Job(f"op{number}", to=rng.choice(("prices.do", "prices.keyed")), slow=rng.choice(SLOW))
    job.key = "tea" if job.to == "prices.keyed" else ""
    job.tells = [f"op{number}.{each}" for each in range(rng.choice((1, 1, 3)))]
    job.fails = rng.choice((0, 0, 1))
    job.no = rng.choice(("", "", "", "raised"))
    job.hold = rng.choice((0.0, 0.0, 0.02))
    return Ask(rng.uniform(0.0, chance.BUSY), "shop", rng.choice(("call", "send")), job)


def _event(rng: Random, places: dict[str, int]) -> Event:
    whom = rng.choice(list(places))
    at, length = rng.uniform(0.1, chance.BUSY), rng.choice((0.1, 1.0, 3.0))
    what = rng.choice(("wipe", "cut", "sever", "sever", "power", "stop", "stop", "freeze", "jump"))
    if what == "freeze":
        length = rng.choice((0.3, 3.0, 20.0))  # the last one is longer than a lease
    if what == "jump":
        length = rng.choice((20.0, -1.0))  # as far as clocks may differ where events are told
    if what == "sever":
        whom = rng.choice(("shop prices", "prices stock", "shop stock"))
    return Event(at, what, whom, length)
