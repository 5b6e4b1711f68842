"""J3, Starlette and nats-py: an HTTP request becomes a request on NATS; the body is passed on unread."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import nats
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

connection: Any = None
subject = os.environ["WEB_SUBJECT"]


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
    global connection  # noqa: PLW0603 (one process, one connection)
    connection = await nats.connect(os.environ["WEB_NATS"])
    yield
    await connection.close()


async def take(request: Request) -> Response:
    reply = await connection.request(subject, await request.body(), timeout=5)
    return Response(reply.data, media_type="application/json")


app = Starlette(routes=[Route("/order", take, methods=["POST"])], lifespan=lifespan)
