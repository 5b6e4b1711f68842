"""The order as pydantic models, for FastStream and FastAPI."""

from __future__ import annotations

from pydantic import BaseModel


class Line(BaseModel):
    sku: str
    qty: int
    cents: int


class Address(BaseModel):
    name: str
    street: str
    city: str
    zip: str
    country: str


class Order(BaseModel):
    id: int
    customer: str
    currency: str
    placed_at: str
    lines: list[Line]
    ship_to: Address


class Taken(BaseModel):
    id: int
    ok: bool
