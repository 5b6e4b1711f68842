"""The order as types: what every job of ours sends."""

from __future__ import annotations

from msgspec import Struct


class Line(Struct):
    sku: str
    qty: int
    cents: int


class Address(Struct):
    name: str
    street: str
    city: str
    zip: str
    country: str


class Order(Struct):
    id: int
    customer: str
    currency: str
    placed_at: str
    lines: list[Line]
    ship_to: Address


class Taken(Struct):
    id: int
    ok: bool


def order(number: int) -> Order:
    """Return the same order as `benchmarks.talk.order`, typed."""
    return Order(
        id=number,
        customer=f"cust-{number % 9973:06d}",
        currency="EUR",
        placed_at="2026-01-15T12:34:56.789Z",
        lines=[Line("SKU-0012345", 2, 1999), Line("SKU-0098765", 1, 45000)],
        ship_to=Address("Ada Example", "12 Long Street", "Utrecht", "3511 AB", "NL"),
    )
