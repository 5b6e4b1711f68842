"""What the uses beside it have in common."""

from msgspec import Struct

from posthouse import Event, Operation, Reject, Service


class Order(Struct):
    sku: str
    qty: int = 1


class Price(Struct):
    sku: str
    total: float


class Special(Price):
    reason: str = ""


class Unknown(Reject):
    code = "prices.unknown"
    status = 404


quote = Operation("prices.quote", Order, Price, rejects=(Unknown,))
drop = Operation("prices.drop", Order, None)
find = Operation("prices.find", Order, Price | None)
quoted = Event("prices.quoted", Price)
shop = Service("shop")
prices = Service("prices")
