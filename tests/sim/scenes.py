"""Plans that are written by hand, so that every point is passed: for crashes at each of them."""

from __future__ import annotations

from tests.sim.plans import Ask, Death, Event, Plan
from tests.sim.services import Job


def everything(*deaths: Death) -> Plan:
    """Return a plan in which every step of the journal is taken, on both sides."""
    return Plan(
        seed=7,
        places={"shop": 2, "prices": 2, "stock": 1, "guest": 1},
        hears=True,
        heals_at=20.0,
        deaths=list(deaths),
        asks=[
            Ask(0.0, "shop", "call", Job("early", to="stock.do")),
            Ask(1.0, "shop", "call", Job("plain", to="prices.do")),
            Ask(1.1, "shop", "call", Job("by-id", effect="id", to="prices.do")),
            Ask(1.2, "shop", "send", Job("heard", to="prices.do")),
            Ask(1.3, "shop", "call", Job("no", no="returned", to="prices.do")),
            Ask(1.4, "shop", "call", Job("raised", no="raised", to="prices.do")),
            Ask(1.5, "shop", "call", Job("fails", fails=2, to="prices.do")),
            Ask(
                1.6,
                "shop",
                "call",
                Job("asks", to="prices.do", asks=[Job("asks.1", to="stock.do"), Job("asks.2", to="stock.do")]),
            ),
            Ask(
                1.7,
                "shop",
                "call",
                Job(
                    "both",
                    to="prices.do",
                    together=True,
                    asks=[Job("both.1", to="stock.do", slow=0.3), Job("both.2", to="stock.keyed", key="k")],
                ),
            ),
            Ask(1.8, "shop", "send", Job("sends", to="prices.do", sends=[Job("sends.1", to="stock.do")])),
            Ask(1.9, "shop", "send", Job("first", to="prices.keyed", key="k", slow=0.2)),
            Ask(1.9, "shop", "send", Job("second", to="prices.keyed", key="k")),
            Ask(1.9, "shop", "call", Job("third", to="prices.keyed", key="k")),
            Ask(2.0, "shop", "call", Job("unwanted", to="prices.do", slow=5.0), cancel_at=2.1),
            Ask(
                2.0,
                "shop",
                "call",
                Job("waits", to="prices.do", asks=[Job("waits.1", to="stock.do", slow=2.0)], timeout=1.0),
            ),
            Ask(2.2, "guest", "call", Job("deposit", to="prices.do")),
            Ask(2.3, "guest", "send", Job("left", to="shop.do", asks=[Job("left.1", to="prices.do")])),
            Ask(2.6, "shop", "send", Job("missed", to="stock.do")),
            Ask(4.0, "shop", "call", Job("late", to="prices.do", slow=30.0), deadline=0.5),
            Ask(6.0, "shop", "call", Job("last", to="prices.do")),
        ],
        events=[Event(2.5, "stop", "stock", 1.0)],
    )


def after_a_death(*deaths: Death) -> Plan:
    """Return a plan in which one instance of each side dies early, so that its sibling takes over."""
    plan = everything(
        Death("shop hears reply before", 3, back=8.0), Death("prices tail end before", 3, back=8.0), *deaths
    )
    plan.places = {"shop": 2, "prices": 2, "stock": 1}
    plan.asks = [ask for ask in plan.asks if ask.caller == "shop"]
    plan.events.append(Event(8.5, "stop", "prices", 1.0))
    plan.heals_at = 20.0
    return plan
