"""J6, posthouse: a minimal service, as a user would start it: `python -m benchmarks.ours.starting TRANSPORT`."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import posthouse
from benchmarks.ours.orders import Order
from benchmarks.talk import now, say


@asynccontextmanager
async def lifespan() -> AsyncGenerator[None]:
    say("READY")
    yield


orders = posthouse.Service("orders", lifespan=lifespan)


@orders.handler(mode="queued")
async def take(order: Order) -> None:
    say("DONE", last=now())


posthouse.run(orders, transport=sys.argv[1])
