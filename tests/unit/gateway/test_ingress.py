"""From an HTTP request to data: each limit at -1, 0 and +1, and every kind of bad input."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.errors import (
    AmbiguousBodyError,
    BodyTimeoutError,
    BodyTooDeepError,
    BodyTooLargeError,
    HeadersTooLargeError,
    HttpError,
    InvalidDataError,
    MalformedBodyError,
    MediaTypeError,
)
from posthouse.gateway.ingress import (
    check_media_type,
    data_of_body,
    data_of_query,
    read_body,
    read_headers,
    whole_request,
)
from posthouse.gateway.patience import Patience
from posthouse.gateway.routes import Match, Table
from tests.unit.gateway.makers import Order, route

pytestmark = pytest.mark.anyio

ORDERS = Match(route("POST /orders"), {})
ANYTHING = Match(route("POST /any", request=Any), {})
NOTHING = Match(route("POST /nothing", request=None), {})


def at(http: str, path: str, **more: Any) -> Match:
    return Table([route(http, **more)]).find(http.partition(" ")[0], path)


# --- headers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "fits"), [(99, True), (100, True), (101, False)])
def test_so_many_headers_and_no_more(count: int, fits: bool):
    pairs = [(b"x-%d" % number, b"") for number in range(count)]

    assert taken(lambda: read_headers(pairs, count=100, limit=10_000), HeadersTooLargeError) == fits


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize(("size", "fits"), [(-1, True), (0, True), (+1, False)])
def test_so_many_bytes_of_headers_and_no_more(size: int, fits: bool, repeated: bool):
    pairs = [(b"host", b"a")] + [(b"x", b"y")] * (2 if repeated else 1)
    used = sum(len(name) + len(value) + 4 for name, value in pairs)
    pairs.append((b"long", b"v" * (200 - used - len(b"long") - 4 + size)))

    assert taken(lambda: read_headers(pairs, count=100, limit=200), HeadersTooLargeError) == fits


@pytest.mark.parametrize("name", [b"host", b"origin", b"content-type", b"content-length", b"content-encoding"])
def test_a_header_that_decides_must_not_stand_twice(name: bytes):
    with pytest.raises(HttpError, match=name.decode()):
        read_headers([(name, b"a"), (b"x", b"y"), (name, b"b")], count=100, limit=1000)


def test_a_body_must_not_have_two_lengths():
    with pytest.raises(AmbiguousBodyError):
        read_headers([(b"content-length", b"1"), (b"transfer-encoding", b"chunked")], count=100, limit=1000)


# --- the body --------------------------------------------------------------------------------------------


def body_of(*parts: bytes) -> Any:
    events = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    events[-1]["more_body"] = False

    async def receive() -> Any:
        return events.pop(0)

    return receive


async def read(receive: Any, *, announced: int | None = None, limit: int = 100, within: float = 60.0) -> bytes:
    headers = {} if announced is None else {b"content-length": b"%d" % announced}
    patience = Patience[Any](within, lambda task: task.cancel())
    try:
        return await read_body(receive, headers, limit=limit, patience=patience)
    finally:
        patience.close()


@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest.mark.parametrize(("size", "fits"), [(99, True), (100, True), (101, False)])
async def test_so_many_bytes_of_body_and_no_more(size: int, fits: bool, pieces: int):
    whole = bytes(range(size))
    cuts = [size * piece // pieces for piece in range(pieces + 1)]
    receive = body_of(*(whole[start:end] for start, end in itertools.pairwise(cuts)))

    if fits:
        assert await read(receive) == whole
    else:
        with pytest.raises(BodyTooLargeError):
            await read(receive)


@pytest.mark.parametrize(("announced", "fits"), [(99, True), (100, True), (101, False), (10**30, False)])
async def test_a_body_that_announces_too_much_is_not_read(announced: int, fits: bool):
    asked: list[int] = []

    async def receive() -> Any:
        asked.append(1)
        return {"type": "http.request", "body": b"x"}

    if fits:
        assert await read(receive, announced=announced) == b"x"
    else:
        with pytest.raises(BodyTooLargeError):
            await read(receive, announced=announced)
        assert asked == []


async def test_a_body_without_end_is_left_at_the_limit():
    async def receive() -> Any:
        received.append(1)
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    received: list[int] = []
    with pytest.raises(BodyTooLargeError):
        await read(receive)

    assert len(received) == 11


async def test_a_body_that_does_not_come_is_given_up():
    async def receive() -> Any:
        await asyncio.get_running_loop().create_future()

    async with asyncio.timeout(5):
        with pytest.raises(BodyTimeoutError):
            await read(receive, within=0.01)


async def test_who_cancels_from_outside_while_the_body_comes_is_obeyed():
    waits = asyncio.Event()

    async def receive() -> Any:
        waits.set()
        await asyncio.get_running_loop().create_future()

    reading = asyncio.create_task(read(receive))
    await waits.wait()
    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_client_that_goes_away_in_the_middle_leaves_no_half_body():
    events = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return events.pop(0)

    with pytest.raises(HttpError, match="went away"):
        await read(receive)


# --- what it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
        b"application/cloudevents+json",
    ],
)
def test_json_is_taken_under_its_names(kind: bytes):
    check_media_type({b"content-type": kind})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"content-type": b""},
        {b"content-type": b"text/plain"},
        {b"content-type": b"text/json"},
        {b"content-type": b"application/x-www-form-urlencoded"},
        {b"content-type": b"application/jsonx"},
        {b"content-type": b"application/x-python-pickle"},
        {b"content-type": b"application/json; charset=utf-16"},
        {b"content-type": b"application/json", b"content-encoding": b"gzip"},
    ],
    ids=str,
)
def test_what_is_no_plain_json_is_refused(headers: dict[bytes, bytes]):
    with pytest.raises(MediaTypeError):
        check_media_type(headers)


# --- JSON ------------------------------------------------------------------------------------------------


def test_a_good_body_goes_on_as_it_came():
    body = b'{ "qty": 2,\n "sku": "t\\u00e9a" }'

    assert data_of_body(ORDERS, body, depth=32) is body


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", "truncated"),
        (b'{"sku":"a",}', "byte 11"),
        (b'{"sku":NaN}', "byte 7"),
        (b'{"sku":"a"} x', "byte 13"),
        (b"sku=a", "byte 0"),
        (b'{"sku":"\xff"}', "utf-8"),
        (b"\xef\xbb\xbf{}", "byte 0"),
        (b"\x80\x04\x95", "byte 0"),
        (b"", "empty"),
    ],
)
def test_what_is_not_json_is_refused_with_the_place(body: bytes, where: str):
    with pytest.raises(MalformedBodyError) as caught:
        data_of_body(ORDERS, body, depth=32)

    assert where in str(caught.value).lower()


@pytest.mark.parametrize(
    "match", [ORDERS, ANYTHING, at("PUT /orders/{sku}", "/orders/a")], ids=["typed", "untyped", "path"]
)
@pytest.mark.parametrize("body", [b'{"note":"\xff"}', b'{"\xff":1}', b'{"note":"\xed\xa0\x80"}', b'{"note":"a\xc3"}'])
def test_what_is_not_utf_8_is_refused_and_no_accident(match: Match, body: bytes):
    with pytest.raises((MalformedBodyError, InvalidDataError)):
        data_of_body(match, body, depth=32)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"sku":1}', "$.sku"),
        (b'{"sku":"a","qty":"2"}', "$.qty"),
        (b'{"sku":"a","qty":0}', "$.qty"),
        (b'{"sku":"a","qty":2.5}', "$.qty"),
        (b'{"sku":"a","qty":1e400}', "$.qty"),
        (b'{"sku":"a","tags":["x",1]}', "$.tags[1]"),
        (b'{"sku":"a","role":"admin"}', "role"),
        (b"{}", "sku"),
        (b"[]", "object"),
        (b"null", "object"),
    ],
)
def test_wrong_types_are_refused_with_the_path(body: bytes, path: str):
    with pytest.raises(InvalidDataError) as caught:
        data_of_body(ORDERS, body, depth=32)

    assert path in str(caught.value)


@pytest.mark.parametrize("match", [ORDERS, ANYTHING], ids=["typed", "untyped"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"sku":"a","sku":"b"}',
        b'{"sku":"a","sku" :"b"}',
        b'{"sku" : "a", "qty":1, "sku":"b"}',
        b'{"sku":"a","qty":1,"qt\\u0079":2}',
        b'{"sku":"\\":","qty":1,"qty":1}',
        b'{"sku":"a","qty"\n:1,"sku":"a"}',
    ],
)
def test_a_name_that_stands_twice_is_refused(match: Match, body: bytes):
    with pytest.raises(MalformedBodyError, match="stands twice"):
        data_of_body(match, body, depth=32)


@pytest.mark.parametrize(
    "body", [b'[{"a":1},{"a":2}]', b'{"a":{"a":{"a":1}}}', b'{"a":"\\"a\\":","b":":"}', b'{"":":","b":{"":1}}']
)
def test_the_same_name_in_different_objects_is_fine(body: bytes):
    assert data_of_body(ANYTHING, body, depth=32) == body


names = st.sampled_from(["a", "b", '"', ":", "\\", " :", "é"])


@given(
    data=st.recursive(st.integers() | names, lambda inner: st.lists(inner) | st.dictionaries(names, inner)),
    blank=st.sampled_from(["", " ", "\n"]),
)
def test_no_json_with_each_name_once_is_refused(data: Any, blank: str):
    body = written(data, blank).encode()

    assert data_of_body(ANYTHING, body, depth=10**6) == body


@given(
    inner=st.dictionaries(names, st.integers() | names, min_size=1),
    around=st.integers(0, 3),
    blank=st.sampled_from(["", " ", "\n"]),
    rng=st.randoms(use_true_random=False),
)
def test_json_with_a_name_twice_is_always_refused(inner: dict[str, Any], around: int, blank: str, rng: Any):
    twice = [*inner.items(), rng.choice(list(inner.items()))]
    rng.shuffle(twice)
    text = "{" + ",".join(f"{written(name, blank)}{blank}:{written(value, blank)}" for name, value in twice) + "}"
    for _ in range(around):
        text = f'[{{"x":{text}}}]'

    with pytest.raises(MalformedBodyError):
        data_of_body(ANYTHING, text.encode(), depth=32)


def written(data: Any, blank: str) -> str:
    match data:
        case list():
            return f"[{','.join(written(inner, blank) for inner in cast('list[Any]', data))}]"
        case dict():
            rows = cast("dict[str, Any]", data).items()
            return "{" + ",".join(f"{written(k, blank)}{blank}:{blank}{written(v, blank)}" for k, v in rows) + "}"
        case _:
            return msgspec.json.encode(data).decode()


@pytest.mark.parametrize(("depth", "fits"), [(31, True), (32, True), (33, False)])
@pytest.mark.parametrize("around", ["[{}]", '{{"a":{}}}', '[[],{},{{}},"]}}"]', '["\\"[[[[",{}]', "[\n{} ]"])
def test_so_deep_and_no_deeper(depth: int, fits: bool, around: str):
    body = "[]"
    for _ in range(depth - 1):
        body = around.format(body)

    assert taken(lambda: data_of_body(ANYTHING, body.encode(), depth=32), BodyTooDeepError) == fits


@pytest.mark.parametrize("body", [b"[" * 1_000_000, b"[" * 40, b'{"a":' * 200_000, b"]" * 1_000_000])
def test_brackets_that_do_not_end_are_refused_and_quickly(body: bytes):
    with pytest.raises((MalformedBodyError, BodyTooDeepError)):
        data_of_body(ANYTHING, body, depth=32)


def test_many_brackets_side_by_side_are_not_deep():
    body = b"[" + b",".join([b'{"a":[1]}'] * 10_000) + b"]"

    assert data_of_body(ANYTHING, body, depth=3) == body


# --- fields of the path ----------------------------------------------------------------------------------


def test_fields_of_the_path_are_put_into_the_body_as_their_types():
    match = at("PUT /orders/{sku}/{qty}", "/orders/12/3")

    assert msgspec.json.decode(data_of_body(match, b'{"note":"x"}', depth=32)) == {"note": "x", "sku": "12", "qty": 3}
    assert msgspec.json.decode(data_of_body(match, b"", depth=32)) == {"sku": "12", "qty": 3}


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/orders/a/x", b"{}", "$.qty"),
        ("/orders/a/0", b"{}", "$.qty"),
        ("/orders/a/1", b"[]", "object"),
        ("/orders/a/1", b'{"qty":2}', "another qty"),
        ("/orders/a/1", b'{"more":2}', "more"),
    ],
)
def test_fields_that_do_not_fit_are_refused(path: str, body: bytes, says: str):
    with pytest.raises(InvalidDataError) as caught:
        data_of_body(at("PUT /orders/{sku}/{qty}", path), body, depth=32)

    assert says in str(caught.value)


def test_a_name_that_stands_twice_is_refused_beside_fields_of_the_path_too():
    with pytest.raises(MalformedBodyError, match="stands twice"):
        data_of_body(at("PUT /orders/{sku}", "/orders/a"), b'{"qty":1,"qty":2}', depth=32)


def test_an_operation_that_takes_nothing_takes_no_body():
    assert data_of_body(NOTHING, b"", depth=32) == b"null"
    assert data_of_body(NOTHING, b"null", depth=32) == b"null"
    with pytest.raises(InvalidDataError):
        data_of_body(NOTHING, b"1", depth=32)


# --- queries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "data"),
    [
        (b"", {"sku": "7"}),
        (b"qty=2&gift=true", {"sku": "7", "qty": 2, "gift": True}),
        (b"tags=a&tags=b", {"sku": "7", "tags": ["a", "b"]}),
        (b"tags=a", {"sku": "7", "tags": ["a"]}),
        (b"note=a%20b+c%26", {"sku": "7", "note": "a b c&"}),
        (b"note=", {"sku": "7", "note": ""}),
    ],
)
def test_a_query_becomes_the_types_of_the_operation(query: bytes, data: dict[str, Any]):
    made = data_of_query(at("GET /orders/{sku}", "/orders/7"), query)

    assert msgspec.json.decode(made) == data
    assert msgspec.json.decode(made, type=Order).sku == "7"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"qty=x", "$.qty"),
        (b"qty=0", "$.qty"),
        (b"more=1", "more"),
        (b"qty=1&qty=2", "twice"),
        (b"gift=maybe", "$.gift"),
    ],
)
def test_a_query_that_does_not_fit_is_refused_with_the_path(query: bytes, says: str):
    with pytest.raises(InvalidDataError) as caught:
        data_of_query(at("GET /orders/{sku}", "/orders/7"), query)

    assert says in str(caught.value)


@pytest.mark.parametrize("query", [b"note=%ff", b"note=\xff"])
def test_a_query_that_is_not_utf_8_is_refused(query: bytes):
    with pytest.raises(HttpError):
        data_of_query(at("GET /orders/{sku}", "/orders/7"), query)


@pytest.mark.parametrize(("count", "fits"), [(99, True), (100, True), (101, False)])
def test_so_many_parameters_and_no_more(count: int, fits: bool):
    query = b"&".join([b"tags=x"] * count)

    assert taken(lambda: data_of_query(at("GET /orders/{sku}", "/orders/7"), query), HttpError) == fits


# --- the whole HTTP request ------------------------------------------------------------------------------


def test_the_whole_request_goes_on_but_for_what_proves_who_asks():
    headers = [
        (b"x-event", b"push"),
        (b"accept", b"a"),
        (b"accept", b"b"),
        (b"authorization", b"secret"),
        (b"cookie", b"secret"),
        (b"proxy-authorization", b"secret"),
    ]

    data = msgspec.json.decode(
        whole_request({"method": "POST", "query_string": b"a=1&a=2&b="}, "/hook", headers, b"\x00\xff")
    )

    assert data == {
        "method": "POST",
        "path": "/hook",
        "query": {"a": "2", "b": ""},
        "headers": {"x-event": "push", "accept": "a, b"},
        "body": "AP8=",
    }


def taken(work: Any, error: type[Exception]) -> bool:
    try:
        work()
    except error:
        return False
    return True
