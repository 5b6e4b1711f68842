"""J3, FastAPI and nats-py: the body is checked, then becomes a request on NATS; so is the reply."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import nats
from fastapi import FastAPI

from benchmarks.peers.models import Order, Taken

connection: Any = None
subject = os.environ["WEB_SUBJECT"]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    global connection  # noqa: PLW0603 (one process, one connection)
    connection = await nats.connect(os.environ["WEB_NATS"])
    yield
    await connection.close()


app = FastAPI(lifespan=lifespan)


@app.post("/order")
async def take(body: Order) -> Taken:
    reply = await connection.request(subject, body.model_dump_json().encode(), timeout=5)
    return Taken.model_validate_json(reply.data)
