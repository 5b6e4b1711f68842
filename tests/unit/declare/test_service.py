"""Service: what it keeps of handlers, events and subscriptions, and what it refuses at import."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypedDict, cast

import msgspec
import pytest

from posthouse.declare.operation import DEFAULT_MODE, Event, Mode, Operation
from posthouse.declare.service import Service
from posthouse.declare.target import RunOptions
from posthouse.declare.values import Gap, HttpRequest, Reply
from posthouse.errors import DeclarationError, IllegalNameError, NotBuiltError, Reject
from posthouse.runtime.context import Context, SyncContext

HERE = "test_service.py"


class Order(msgspec.Struct):
    sku: str
    qty: int = 1


class Rush(Order):
    hours: int = 1


class Parcel(TypedDict):
    sku: str


class Price(msgspec.Struct):
    total: float


class Unknown(Reject):
    code = "prices.unknown"


@pytest.fixture
def prices() -> Service:
    return Service("prices")


# --- handlers that are right -------------------------------------------------------------------------


def test_a_handler_makes_an_operation_of_its_name_and_types(prices: Service):
    @prices.handler
    async def quote(order: Order, ctx: Context) -> Price:
        return Price(float(order.qty))

    handler = prices.operations["quote"]
    assert handler.operation is quote
    assert (quote.name, quote.request, quote.reply) == ("prices.quote", Order, Price)
    assert (handler.name, handler.is_async, handler.context) == ("prices.quote", True, "async")
    assert handler.function is quote.function
    assert HERE in handler.place


async def coroutine(order: Order) -> None: ...
async def coroutine_with_context(order: Order, ctx: Context) -> None: ...
def plain(order: Order) -> None: ...
def plain_with_context(order: Order, ctx: SyncContext) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_async", "context"),
    [
        (coroutine, True, "none"),
        (coroutine_with_context, True, "async"),
        (plain, False, "none"),
        (plain_with_context, False, "sync"),
    ],
)
def test_the_four_shapes_of_a_handler_are_told_apart(
    prices: Service, function: Callable[..., Any], is_async: bool, context: str
):
    prices.handler(cast("Any", function))

    [handler] = prices.operations.values()
    assert (handler.is_async, handler.context) == (is_async, context)


def test_what_a_handler_says_of_its_running_is_kept_as_numbers(prices: Service):
    @prices.handler(
        name="ask",
        http="POST /quotes",
        status=201,
        rate="100/s",
        timeout="5s",
        attempts=8,
        backoff="1s..5m",
        exhausted="fail",
        concurrency=3,
        mode="volatile",
        rejects=(Unknown,),
    )
    async def quote(order: Order) -> Price:
        return Price(1.0)

    handler = prices.operations["ask"]
    assert handler.run == RunOptions(timeout=5.0, attempts=8, backoff=(1.0, 300.0), exhausted="fail", concurrency=3)
    assert (handler.http, handler.status, handler.rate) == ("POST /quotes", 201, "100/s")
    assert (quote.name, quote.mode, quote.rejects) == ("prices.ask", "volatile", (Unknown,))


def test_what_a_handler_does_not_say_is_none(prices: Service):
    prices.handler(coroutine)

    assert prices.operations["coroutine"].run == RunOptions(None, None, None, None, None)


def test_reject_is_no_part_of_the_reply(prices: Service):
    @prices.handler
    async def one(order: Order) -> Price | Reject:
        return Price(1.0)

    @prices.handler
    async def two(order: Order) -> Price | Unknown | None:
        return None

    @prices.handler
    async def three(order: Order) -> Reject | None:
        return None

    assert (one.reply, two.reply, three.reply) == (Price, Price | None, None)


def test_a_batch_handler_takes_lists_of_its_request(prices: Service):
    @prices.handler(batch=100, linger="1s")
    async def store(rows: list[Order], ctx: Context) -> None: ...

    @prices.handler(batch=5)
    def keep(rows: list[Order]) -> None: ...

    assert (store.request, store.reply) == (Order, None)
    assert (prices.operations["store"].batch, prices.operations["store"].linger) == (100, 1.0)
    assert (prices.operations["keep"].batch, prices.operations["keep"].linger) == (5, 0.05)


def test_get_routes_are_volatile_unless_they_say_otherwise(prices: Service):
    @prices.handler(http="GET /prices/{sku}")
    async def find(order: Order) -> Price:
        return Price(1.0)

    @prices.handler(http="GET /kept/{sku}", mode="queued")
    async def kept(order: Order) -> Price:
        return Price(1.0)

    @prices.handler(http="DELETE /prices/{sku}")
    async def drop(order: Order) -> None: ...

    assert [op.mode for op in (find, kept, drop)] == ["volatile", "queued", DEFAULT_MODE]


def test_a_whole_http_request_may_have_any_path(prices: Service):
    @prices.handler(http="POST /hooks/{source}", status=202)
    async def receive(request: HttpRequest, ctx: Context) -> None: ...

    assert prices.operations["receive"].http == "POST /hooks/{source}"


def test_a_wrapped_handler_is_read_through_its_wrapper(prices: Service):
    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    prices.handler(noted(coroutine_with_context))

    [handler] = prices.operations.values()
    assert (handler.name, handler.is_async, handler.context) == ("prices.coroutine_with_context", True, "async")


def test_types_that_are_defined_inside_a_function_are_found(prices: Service):
    class Inner(msgspec.Struct):
        a: int

    def declare() -> Operation[Any, Any]:
        class Innermost(msgspec.Struct):
            b: int

        @prices.handler
        async def take(data: Inner) -> Innermost:
            return Innermost(data.a)

        return take

    take = declare()

    assert take.request is Inner
    assert take.decode_reply(b'{"b":1}').b == 1


def test_the_innermost_type_of_a_name_is_taken(prices: Service):
    class Row(msgspec.Struct):
        outer: str

    def declare() -> tuple[Operation[Any, Any], type, Operation[Any, Any]]:
        class Order(msgspec.Struct):
            inner: str

        class Row(msgspec.Struct):
            inner: str

        @prices.handler
        async def take(data: Order) -> None: ...

        @prices.handler
        async def keep(data: Row) -> None: ...

        return take, Order, keep

    take, inner, keep = declare()

    assert take.request is inner
    assert take.request is not Order
    assert keep.request is not Row


# --- handlers that are wrong -------------------------------------------------------------------------


def untyped(order, ctx) -> None: ...  # pyright: ignore
def half_typed(order: Order, ctx) -> None: ...  # pyright: ignore
def no_reply(order: Order): ...  # pyright: ignore
def nothing() -> None: ...
def three(order: Order, ctx: SyncContext, more: int) -> None: ...
def keyword(order: Order, *, ctx: SyncContext) -> None: ...
async def blocking(order: Order, ctx: SyncContext) -> None: ...
def awaiting(order: Order, ctx: Context) -> None: ...
def no_context(order: Order, ctx: int) -> None: ...
def undefined(order: Missing) -> None: ...  # noqa: F821  # pyright: ignore


CANNOT_BE_HANDLERS: list[tuple[Callable[..., Any], str]] = [
    (untyped, r"of which type 'order' is"),
    (half_typed, r"of which type 'ctx' is"),
    (no_reply, r"what it returns.*-> None"),
    (nothing, r"no parameter"),
    (three, r"parameters \(order"),
    (keyword, r"parameters \(order"),
    (blocking, r"SyncContext, which would block the loop.*ctx: Context"),
    (awaiting, r"Context, whose verbs it cannot await.*SyncContext"),
    (no_context, r"second parameter.*int.*not a context"),
    (undefined, r"'Missing'.*TYPE_CHECKING"),
]


@pytest.mark.parametrize(("function", "says"), CANNOT_BE_HANDLERS)
def test_a_function_that_cannot_be_a_handler_is_told_where_it_stands(
    prices: Service, function: Callable[..., Any], says: str
):
    quoted = prices.event("quoted", Order)

    with pytest.raises(TypeError, match=says) as refused:
        prices.handler(cast("Any", function))
    assert f"{HERE}:{function.__code__.co_firstlineno}" in str(refused.value)
    with pytest.raises(TypeError, match=says):
        prices.on(quoted)(cast("Any", function))
    assert not prices.operations
    assert not prices.subscriptions


def test_what_is_no_function_cannot_be_a_handler(prices: Service):
    with pytest.raises(TypeError, match="not a function"):
        prices.handler(cast("Any", "quote"))
    with pytest.raises(TypeError, match="not a function"):
        prices.handler(functools.partial(coroutine))


def test_two_of_one_name_are_refused_handlers_and_subscriptions_alike(prices: Service):
    quoted = prices.event("quoted", Order)
    prices.handler(plain)

    with pytest.raises(DeclarationError, match=r"name of what stands at .*test_service\.py:\d+"):
        prices.handler(plain)
    with pytest.raises(DeclarationError, match="name of what stands"):
        prices.on(quoted)(plain)
    with pytest.raises(DeclarationError, match="two events named 'quoted'"):
        prices.event("quoted", Order)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"batch": 0}, "batch= .*1 or more"),
        ({"attempts": 0}, "attempts= .*1 or more"),
        ({"attempts": True}, "attempts= .*1 or more"),
        ({"concurrency": -1}, "concurrency= .*1 or more"),
        ({"timeout": "soon"}, "timeout= .*timeout='5s'"),
        ({"timeout": 0}, "timeout= .*above 0"),
        ({"linger": "1s"}, "linger= without batch="),
        ({"backoff": "1s"}, r"no '\.\.'"),
        ({"backoff": "5m..1s"}, "first wait"),
        ({"backoff": "0s..1s"}, "first wait"),
        ({"backoff": 5}, "backoff='1s..5m'"),
        ({"exhausted": "drop"}, "'park' or 'fail'"),
        ({"rate": "100"}, "rate='100/s'"),
        ({"rate": "0/s"}, "rate='100/s'"),
        ({"rate": 100}, "rate='100/s'"),
        ({"mode": "safe"}, "mode='safe'"),
        ({"status": 201}, "status= without a route"),
        ({"http": "POST /a", "status": 404}, "200 to 299"),
        ({"http": "POST"}, "plain segments"),
        ({"http": "post /a"}, "no method"),
        ({"http": "HEAD /a"}, "no method"),
        ({"http": "/a"}, "no method"),
        ({"http": "POST a"}, "plain segments"),
        ({"http": "POST /a b"}, "plain segments"),
        ({"http": "POST /a/"}, "plain segments"),
        ({"http": "POST /a/{}"}, "plain segments"),
        ({"http": "POST /{sku}/{sku}"}, "twice"),
        ({"http": "POST /{colour}"}, "{colour} is no field.*qty, sku"),
        ({"http": 5}, "no method"),
        ({"retries": 5}, "no option retries="),
        ({"time_out": 5}, "did you mean timeout="),
        ({"key": "colour"}, "'colour'.*qty, sku"),
        ({"key": "sku", "mode": "queued"}, "'sku'.*mode='journaled'"),
    ],
)
def test_an_option_that_cannot_be_is_refused_where_it_stands(prices: Service, how: dict[str, Any], says: str):
    with pytest.raises(TypeError, match=says) as refused:
        cast("Any", prices).handler(**how)(plain)
    assert HERE in str(refused.value)
    assert not prices.operations


@pytest.mark.parametrize("name", ["", "a b", "_quote", "9", "x" * 65])
def test_an_illegal_name_is_refused(prices: Service, name: str):
    with pytest.raises(IllegalNameError):
        prices.handler(name=name)(plain)
    with pytest.raises(IllegalNameError):
        prices.event(name, Order)
    with pytest.raises(IllegalNameError):
        Service(name)


def test_a_batch_handler_must_take_a_list_and_return_nothing(prices: Service):
    def keeps(rows: list[Order]) -> int:
        return len(rows)

    with pytest.raises(DeclarationError, match=r"list\[Row\]"):
        cast("Any", prices).handler(batch=5)(plain)
    with pytest.raises(DeclarationError, match="nobody is told"):
        cast("Any", prices).handler(batch=5)(keeps)


def test_two_handlers_cannot_have_the_same_route(prices: Service):
    prices.handler(http="GET /prices/{sku}")(plain)

    with pytest.raises(DeclarationError, match=r"GET /prices/\{qty\}.*prices\.plain"):
        prices.handler(http="GET /prices/{qty}")(plain_with_context)


# --- shared contracts --------------------------------------------------------------------------------


def test_a_contract_gives_its_name_types_and_mode_to_its_handler(prices: Service):
    shared = Operation("prices.quote", Order, Price, mode="volatile")

    @prices.handler(shared, attempts=3, http="POST /quotes")
    async def take(order: Order, ctx: Context) -> Price:
        return Price(1.0)

    handler = prices.operations["quote"]
    assert (take.name, take.request, take.reply, take.mode) == ("prices.quote", Order, Price, "volatile")
    assert take.function is handler.function
    assert handler.run.attempts == 3


def test_two_programs_in_one_process_can_implement_one_contract():
    shared = Operation("prices.quote", Order, None)
    one, two = Service("prices"), Service("prices")

    first, second = one.handler(shared)(plain), two.handler(shared)(coroutine)

    assert (first.function, second.function) == (plain, coroutine)


def test_another_services_contract_is_refused(prices: Service):
    with pytest.raises(DeclarationError, match=r"'stock\.reserve' belongs to service 'stock'"):
        prices.handler(Operation("stock.reserve", Order, None))
    with pytest.raises(DeclarationError, match=r"'stock\.sold' belongs to service 'stock'"):
        prices.event(Event("stock.sold", Order))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"mode": "queued"}, "mode= .*belongs to its contract"),
        ({"key": "sku"}, "key= .*belongs to its contract"),
        ({"batch": 5}, "batch= .*belongs to its contract"),
        ({"name": "ask"}, "not its contract's"),
    ],
)
def test_a_handler_cannot_say_what_its_contract_says(prices: Service, how: dict[str, Any], says: str):
    shared = Operation("prices.quote", Order, None)

    with pytest.raises(DeclarationError, match=says):
        cast("Any", prices).handler(shared, **how)(plain)


def gives_order(order: Order) -> Order:
    return order


def gives_parcel(parcel: Parcel) -> Parcel:
    return parcel


def takes_rush(order: Rush) -> None: ...


def gives_nothing_but_a_no(order: Order) -> Reject:
    return Unknown("no")


@pytest.mark.parametrize(
    ("request_type", "reply_type", "function", "says"),
    [
        (Price, None, plain, r"takes .*Order"),
        (Order, None, takes_rush, r"takes .*Rush"),
        (Order, Price, gives_order, r"returns .*Order"),
        (Order, Rush, gives_order, r"returns .*Order"),
        (Order, None, gives_order, r"returns .*Order"),
    ],
)
def test_a_handler_that_does_not_fit_its_contract_is_refused(
    prices: Service, request_type: Any, reply_type: Any, function: Callable[..., Any], says: str
):
    implements = cast("Any", prices).handler(Operation("prices.quote", request_type, reply_type))

    with pytest.raises(DeclarationError, match=says):
        implements(function)


@pytest.mark.parametrize(
    ("request_type", "reply_type", "function"),
    [
        (Rush, Order, gives_order),
        (Order, Any, gives_order),
        (Any, Order, gives_order),
        (Order, Price, gives_nothing_but_a_no),
        (Parcel, Parcel, gives_parcel),
    ],
)
def test_a_handler_may_take_more_and_give_less_than_its_contract_says(
    prices: Service, request_type: Any, reply_type: Any, function: Callable[..., Any]
):
    implements = cast("Any", prices).handler(Operation("prices.quote", request_type, reply_type))

    assert implements(function).function is function


# --- events and subscriptions ------------------------------------------------------------------------


def test_an_event_is_declared_by_name_or_as_a_contract(prices: Service):
    shared = Event("prices.sold", Order)

    quoted = prices.event("quoted", Price, mode="volatile", retain="30d")
    sold = prices.event(shared)

    assert (quoted.name, quoted.data, quoted.mode) == ("prices.quoted", Price, "volatile")
    assert sold is shared
    assert prices.events == {"quoted": quoted, "sold": shared}


def test_a_subscription_keeps_its_event_and_gives_the_function_back(prices: Service):
    audit, quoted = Service("audit"), prices.event("quoted", Order)

    given = audit.on(quoted, attempts=5, backoff="1s..1m")(coroutine_with_context)
    audit.on(quoted, name="other")(plain)

    heard = audit.subscriptions["coroutine_with_context"]
    assert given is coroutine_with_context
    assert (heard.name, heard.event, heard.context) == ("audit.coroutine_with_context", quoted, "async")
    assert (heard.run.attempts, heard.run.backoff, heard.start) == (5, (1.0, 60.0), "new")
    assert audit.subscriptions["other"].is_async is False


def test_a_batch_subscription_takes_lists(prices: Service):
    quoted = prices.event("quoted", Order)

    @prices.on(quoted, batch=500, linger="200ms")
    async def count(events: list[Order], ctx: Context) -> None: ...

    assert (prices.subscriptions["count"].batch, prices.subscriptions["count"].linger) == (500, 0.2)


def test_a_subscription_must_take_what_the_event_tells_and_return_nothing(prices: Service):
    quoted = prices.event("quoted", Price)

    async def answers(price: Price) -> int:
        return 1

    with pytest.raises(DeclarationError, match=r"takes .*Order.*'prices\.quoted' tells"):
        cast("Any", prices).on(quoted)(plain)
    with pytest.raises(DeclarationError, match=r"takes .*Rush"):
        cast("Any", prices).on(prices.event("sold", Order))(takes_rush)
    with pytest.raises(DeclarationError, match="nobody is told"):
        cast("Any", prices).on(quoted)(answers)
    with pytest.raises(DeclarationError, match="give it an Event"):
        cast("Any", prices).on(Price)


# --- replies and acks --------------------------------------------------------------------------------

charge = Operation("cards.charge", Order, Price, mode="journaled")
journaled_drop = Operation("prices.drop", Order, None, mode="journaled")


async def hears_of_drops(reply: Reply[Order, None]) -> None: ...
async def hears(reply: Reply[Order, Price]) -> None: ...
async def hears_with_context(reply: Reply[Order, Price], ctx: Context) -> None: ...
def hears_in_a_thread(reply: Reply[Order, Price]) -> None: ...
def hears_in_a_thread_with_context(reply: Reply[Order, Price], ctx: SyncContext) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_async", "context"),
    [
        (hears, True, "none"),
        (hears_with_context, True, "async"),
        (hears_in_a_thread, False, "none"),
        (hears_in_a_thread_with_context, False, "sync"),
    ],
)
def test_a_reply_handler_keeps_its_operation_and_gives_the_function_back(
    prices: Service, function: Callable[..., Any], is_async: bool, context: str
):
    given = cast("Any", prices).on_reply(charge, attempts=5, timeout="2s")(function)

    heard = prices.reply_handlers["cards.charge"]
    assert given is function
    assert (heard.name, heard.what, heard.operation) == ("prices.on_reply.cards.charge", "reply", charge)
    assert (heard.function, heard.is_async, heard.context) == (function, is_async, context)
    assert (heard.run.attempts, heard.run.timeout, heard.batch) == (5, 2.0, 0)
    assert HERE in heard.place
    assert not prices.ack_handlers


def test_an_ack_handler_is_kept_beside_the_reply_handler_of_the_same_operation(prices: Service):
    prices.on_ack(journaled_drop)(hears_of_drops)
    prices.on_reply(journaled_drop)(hears_of_drops)

    heard = prices.ack_handlers["prices.drop"]
    assert (heard.name, heard.what, heard.operation) == ("prices.on_ack.prices.drop", "ack", journaled_drop)
    assert prices.reply_handlers["prices.drop"].name == "prices.on_reply.prices.drop"


def hears_any(reply: Reply[Any, Any]) -> None: ...
def hears_bare(reply: Reply) -> None: ...  # pyright: ignore
def hears_anything(reply: Any) -> None: ...
def hears_wider(reply: Reply[object, msgspec.Struct]) -> None: ...
def hears_a_union(reply: Reply[Order | None, Price | None]) -> None: ...


CAN_HEAR: list[Callable[..., Any]] = [hears_any, hears_bare, hears_anything, hears_wider, hears_a_union]


@pytest.mark.parametrize("function", CAN_HEAR)
def test_a_reply_whose_types_may_fit_is_taken(prices: Service, function: Callable[..., Any]):
    prices.on_reply(charge)(function)

    assert prices.reply_handlers["cards.charge"].function is function


def hears_data(order: Order) -> None: ...
def hears_list(replies: list[Reply[Order, Price]]) -> None: ...
def hears_other_request(reply: Reply[Price, Price]) -> None: ...
def hears_narrower_request(reply: Reply[Rush, Price]) -> None: ...
def hears_other_reply(reply: Reply[Order, Order]) -> None: ...
def hears_no_reply(reply: Reply[Order, None]) -> None: ...
def answers(reply: Reply[Order, Price]) -> int: ...  # pyright: ignore
async def hears_blocking(reply: Reply[Order, Price], ctx: SyncContext) -> None: ...


CANNOT_HEAR: list[tuple[Callable[..., Any], str]] = [
    (hears_data, r"on_\w+\('prices\.charge'\) takes .*Order.*write `reply: Reply\["),
    (hears_list, r"takes list\["),
    (hears_other_request, r"whose request is .*Price.*Order"),
    (hears_narrower_request, r"whose request is .*Rush.*Order"),
    (hears_other_reply, r"whose reply is .*Order.*Price"),
    (hears_no_reply, r"whose reply is .*None.*Price"),
    (answers, r"returns .*int.*nobody is told"),
    (hears_blocking, r"block the loop"),
    (untyped, r"of which type 'order' is"),
]


@pytest.mark.parametrize(("function", "says"), CANNOT_HEAR)
def test_a_function_that_cannot_hear_of_replies_is_refused_where_it_stands(
    prices: Service, function: Callable[..., Any], says: str
):
    mine = Operation("prices.charge", Order, Price, mode="journaled")

    for verb in (prices.on_reply, prices.on_ack):
        with pytest.raises(DeclarationError, match=says) as refused:
            verb(mine)(cast("Any", function))
        assert f"{HERE}:{function.__code__.co_firstlineno}" in str(refused.value)
    assert not prices.reply_handlers
    assert not prices.ack_handlers


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"batch": 5}, r"on_reply\('cards\.charge'\) has no option batch="),
        ({"name": "other"}, "no option name="),
        ({"time_out": 5}, "did you mean timeout="),
        ({"attempts": 0}, r"attempts= of prices\.on_reply\('cards\.charge'\) is 0"),
    ],
)
def test_an_option_that_a_reply_handler_cannot_have_is_refused(prices: Service, how: dict[str, Any], says: str):
    with pytest.raises(DeclarationError, match=says):
        cast("Any", prices).on_reply(charge, **how)(hears)


@pytest.mark.parametrize("mode", ["volatile", "queued"])
def test_outcomes_that_nobody_keeps_cannot_be_heard_of(prices: Service, mode: Mode):
    operation = Operation("prices.quote", Order, Price, mode=mode)

    with pytest.raises(DeclarationError, match=rf"on_reply\('prices\.quote'\).*mode='{mode}'.*keeps replies.*{HERE}"):
        prices.on_reply(operation)
    with pytest.raises(DeclarationError, match=rf"on_ack\('prices\.quote'\).*mode='{mode}'.*keeps replies.*{HERE}"):
        prices.on_ack(operation)


def test_what_is_no_operation_has_no_replies(prices: Service):
    with pytest.raises(DeclarationError, match=r"give it an Operation, as in @shop\.on_reply\(charge\)"):
        prices.on_reply(cast("Any", Order))
    with pytest.raises(DeclarationError, match=r"give it an Operation, as in @shop\.on_ack\(charge\)"):
        prices.on_ack(cast("Any", Event("prices.sold", Order)))


def test_acks_are_heard_of_by_the_service_that_answered_alone(prices: Service):
    with pytest.raises(DeclarationError, match=r"goes to the service that answered, 'cards'.*on_reply"):
        prices.on_ack(charge)


def test_a_service_hears_of_one_operation_in_one_place(prices: Service):
    prices.on_reply(charge)(hears)

    with pytest.raises(DeclarationError, match=r"name of what stands at .*test_service\.py:\d+.*make one function"):
        prices.on_reply(charge)(hears_with_context)
    with pytest.raises(DeclarationError, match="name of what stands at"):
        prices.handler(name="on_reply.cards.charge")(plain)
    assert prices.reply_handlers["cards.charge"].function is hears
    prices.on_ack(journaled_drop)(hears_of_drops)
    with pytest.raises(DeclarationError, match="make one function"):
        prices.on_ack(journaled_drop)(hears_of_drops)


def test_a_name_that_is_too_long_for_the_engines_is_refused_for_a_reply_handler_too(prices: Service):
    long = Operation(f"cards.{'x' * 64}.{'y' * 64}.{'z' * 64}", Order, Price, mode="journaled")

    with pytest.raises(IllegalNameError, match="on_reply handler"):
        prices.on_reply(long)(hears)


# --- the service itself, and what is not built -------------------------------------------------------


def test_a_service_keeps_what_it_was_told():
    service = Service("work", capacity=10, overflow="drop-oldest", concurrency=8)

    assert (service.name, service.capacity, service.overflow, service.concurrency) == ("work", 10, "drop-oldest", 8)


@pytest.mark.parametrize("how", [{"capacity": 0}, {"concurrency": 0}, {"overflow": "block"}, {"lifespan": 5}])
def test_a_service_refuses_what_cannot_be(how: dict[str, Any]):
    with pytest.raises(DeclarationError, match=r"service 'work'.*test_service\.py"):
        cast("Any", Service)("work", **how)


def test_a_service_keeps_its_scripts_in_order():
    assert Service("work").schema == ()
    assert Service("work", schema=["CREATE TABLE b (x)", "CREATE TABLE a (x)"]).schema == (
        "CREATE TABLE b (x)",
        "CREATE TABLE a (x)",
    )


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("CREATE TABLE t (x)", "give a list"),
        (b"DROP TABLE t", "give a list"),
        (5, "give a list"),
        (None, "give a list"),
        ({"CREATE TABLE t (x)"}, "give a list"),
        (["CREATE TABLE t (x)", ""], "holds ''.*none of them empty"),
        ([" \n"], "none of them empty"),
        ([5], "holds 5"),
    ],
)
def test_a_schema_that_is_no_list_of_scripts_is_refused(schema: Any, says: str):
    with pytest.raises(DeclarationError, match=rf"schema= of service 'work'.*{says}") as refused:
        Service("work", schema=schema)
    assert HERE in refused.value.where


def test_what_this_version_lacks_is_refused_where_it_is_declared(prices: Service):
    with pytest.raises(NotBuiltError):
        prices.schedule("0 3 * * *")
    assert not prices.operations


def test_only_what_is_kept_can_be_heard_from_its_first_or_told_as_missing(prices: Service):
    quoted = prices.event("quoted", Order, mode="queued")

    with pytest.raises(DeclarationError, match="mode='queued', and is not kept"):
        prices.on(quoted, start="first")(plain)
    with pytest.raises(DeclarationError, match="mode='queued', and only journaled ones have numbers"):
        prices.on_gap(quoted)
    assert not prices.subscriptions
    assert not prices.gap_handlers


def test_who_hears_of_gaps_takes_a_gap(prices: Service):
    quoted = prices.event("quoted", Order, mode="journaled")

    @prices.on_gap(quoted)
    async def lost(gap: Gap) -> None: ...

    with pytest.raises(DeclarationError, match="write `gap: Gap`"):
        prices.on_gap(prices.event("priced", Order, mode="journaled"))(cast("Any", plain))
    with pytest.raises(DeclarationError, match="make one function of the two"):
        prices.on_gap(quoted)(lost)
    assert prices.gap_handlers["prices.quoted"].name == "prices.on_gap.prices.quoted"


def test_a_reply_gives_its_data_or_raises_what_a_call_would():
    good, bad = Reply("1", Order("tea"), Price(1.0)), Reply[Order, Price]("2", Order("tea"), Unknown("no"))

    assert (good.id, good.request, good.get()) == ("1", Order("tea"), Price(1.0))
    with pytest.raises(Unknown):
        bad.get()
    assert Gap("prices.quoted", "prices", 3, 5).last == 5
