"""What the gateway's parts are tried out with: a route of an operation, made without a registry."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from posthouse.contracts.registry import OperationRecord
from posthouse.gateway.routes import Route
from posthouse.message.message import Mode
from posthouse.runtime.settings import GatewaySettings, RouteSettings


class Order(Struct):
    sku: str
    qty: Annotated[int, Meta(ge=1)] = 1
    tags: list[str] = []
    note: str | None = None
    gift: bool = False


def record(
    http: str,
    name: str = "shop.buy",
    request: Any = Order,
    reply: Any = Order,
    mode: Mode = Mode.QUEUED,
    **more: Any,
) -> OperationRecord:
    return OperationRecord(
        name=name,
        mode=mode,
        request=msgspec.json.schema(request),
        reply=msgspec.json.schema(reply),
        http=http,
        **more,
    )


def route(http: str, name: str = "shop.buy", **more: Any) -> Route:
    return Route(record(http, name, **more), RouteSettings(), GatewaySettings(), None)
