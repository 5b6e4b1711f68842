"""What must not come in: bad input, forged webhooks, pages of other sites. And what is said when we fail."""

from __future__ import annotations

import hashlib
import hmac
import logging
from typing import Any

import pytest

from posthouse import HttpRequest
from tests.system.gateway_world import journal_of, opened, told

pytestmark = pytest.mark.anyio

# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "content", "headers", "status", "code"),
    [
        ("POST /orders", b'{"sku":', {}, 400, "body.malformed"),
        ("POST /orders", b"", {}, 400, "body.malformed"),
        ("POST /orders", b'{"sku":"a","sku":"b"}', {}, 400, "body.malformed"),
        ("POST /orders", b'{"sku":NaN}', {}, 400, "body.malformed"),
        ("POST /orders", b'{"sku":"\xff"}', {}, 400, "body.malformed"),
        ("POST /orders", b"[" * 33 + b"]" * 33, {}, 400, "body.too_deep"),
        ("POST /orders", b'{"sku":"a","qty":"2"}', {}, 422, "data.invalid"),
        ("POST /orders", b'{"sku":"a","role":"admin"}', {}, 422, "data.invalid"),
        ("POST /orders", b" " * 2000, {}, 413, "body.too_large"),
        (
            "POST /orders",
            b"sku=a",
            {"content-type": "application/x-www-form-urlencoded"},
            415,
            "media_type.unsupported",
        ),
        (
            "POST /orders",
            b"\x80\x04N.",
            {"content-type": "application/pickle"},
            415,
            "media_type.unsupported",
        ),
        ("POST /orders", b"{}", {"content-encoding": "gzip"}, 415, "media_type.unsupported"),
        ("POST /orders", b"{}", {"x-long": "x" * 20_000}, 431, "headers.too_large"),
        ("POST /orders", b"{}", {f"x-{number}": "" for number in range(101)}, 431, "headers.too_large"),
        ("POST /orders", b'{"sku":"a"}', {"idempotency-key": "k" * 256}, 400, "http.refused"),
        ("GET /orders", b"", {}, 405, "method.not_allowed"),
        ("GET /search/a?most=x", b"", {}, 422, "data.invalid"),
        ("GET /search/a?more=x", b"", {}, 422, "data.invalid"),
        ("GET /nowhere", b"", {}, 404, "route.unknown"),
        ("GET /shop.buy", b"", {}, 404, "route.unknown"),
        ("GET /search/..%2f..%2fetc", b"", {}, 404, "route.unknown"),
        ("GET /search/%FF", b"", {}, 400, "http.refused"),
        ("DELETE /livez", b"", {}, 405, "method.not_allowed"),
        ("DELETE /requests/x", b"", {}, 404, "request.unknown"),
        ("POST /requests/x", b"", {}, 405, "method.not_allowed"),
        ("POST /", b"{}", {}, 405, "method.not_allowed"),
    ],
)
async def test_bad_input_is_refused_with_its_code_and_nothing_is_stored(
    request_line: str, content: bytes, headers: dict[str, str], status: int, code: str
):
    method, path = request_line.split(" ")
    async with opened(gateway={"body_limit": 1999}) as door:
        response = await door.request(
            method, path, content=content, headers={"content-type": "application/json", **headers}
        )

        assert (response.status_code, told(response)["code"]) == (status, code)
        assert [info.stored for info in await door.host.transport.queues()] == [0] * 4
        assert (await journal_of(door).store.read(lambda books: books.counts())).calls == {}
        assert door.world.seen == []


async def test_wrong_types_are_told_with_the_path_of_the_field():
    async with opened() as door:
        response = await door.post("/orders", json={"sku": "tea", "qty": 0})

        assert told(response)["errors"] == [{"path": "$.qty", "message": "Expected `int` >= 1"}]


@pytest.mark.parametrize(("size", "status"), [(1999, 200), (2000, 200), (2001, 413)])
async def test_a_body_may_have_so_many_bytes(size: int, status: int):
    async with opened(gateway={"body_limit": 2000}) as door:
        body = b'{"sku":"' + b"x" * (size - 10) + b'"}'

        response = await door.post("/orders", content=body, headers={"content-type": "application/json"})

        assert (len(body), response.status_code) == (size, status)


@pytest.mark.parametrize(("size", "status"), [(29, 200), (30, 200), (31, 413)])
async def test_a_route_may_have_a_limit_of_its_own(size: int, status: int):
    async with opened(routes={"POST /orders": {"body_limit": 30}}) as door:
        body = b'{"sku":"' + b"x" * (size - 10) + b'"}'

        response = await door.post("/orders", content=body, headers={"content-type": "application/json"})

        assert (len(body), response.status_code) == (size, status)


async def test_an_accident_of_ours_is_told_by_an_id_that_stands_in_the_log(caplog: pytest.LogCaptureFixture):
    async with opened(mode="queued") as door:
        answering = door.gateway._answering
        assert answering is not None

        async def ask(*_: object, **__: object) -> Any:
            raise ZeroDivisionError("a secret of ours")

        answering._caller = type("Broken", (), {"ask": staticmethod(ask)})()  # pyright: ignore[reportAttributeAccessIssue]
        with caplog.at_level(logging.ERROR, logger="posthouse.gateway"):
            response = await door.post("/orders", json={"sku": "payload-canary"})

        problem = told(response)
        assert (response.status_code, problem["code"]) == (500, "gateway.error")
        assert "ZeroDivisionError" not in response.text
        assert "secret" not in response.text
        assert problem["id"] in caplog.text
        assert "payload-canary" not in caplog.text


# --- webhooks --------------------------------------------------------------------------------------------

SECRET = "hush"
HOOK = {
    "POST /hook": {
        "signature": {"header": "X-Hub-Signature-256", "prefix": "sha256=", "secret": SECRET},
        "idempotency": "X-GitHub-Delivery",
    }
}


def signature(body: bytes, secret: str = SECRET) -> str:
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


async def test_a_signed_webhook_reaches_its_handler_as_it_came():
    async with opened(routes=HOOK) as door:
        body = b'{"zen": "Speak like a human.", "zen": 2} \xff'

        response = await door.post(
            "/hook?a=1",
            content=body,
            headers={
                "X-Hub-Signature-256": signature(body),
                "X-GitHub-Event": "push",
                "content-type": "application/x-www-form-urlencoded",
                "authorization": "secret",
                "cookie": "secret",
            },
        )

        assert response.status_code == 204
        [request] = door.world.seen
        assert isinstance(request, HttpRequest)
        assert (request.method, request.path, request.query, request.body) == ("POST", "/hook", {"a": "1"}, body)
        assert request.headers["x-github-event"] == "push"
        assert {"authorization", "cookie"}.isdisjoint(request.headers)


@pytest.mark.parametrize("signed", [None, "", "sha256=", signature(b"other"), signature(b"{}", "wrong")])
async def test_a_webhook_without_its_signature_is_refused_before_anything_is_looked_at(signed: str | None):
    async with opened(routes=HOOK) as door:
        headers = {} if signed is None else {"X-Hub-Signature-256": signed}

        response = await door.post("/hook", content=b"{}", headers=headers)

        assert (response.status_code, told(response)["code"]) == (401, "signature.invalid")
        assert told(response)["detail"] == "the signature of the webhook is missing or wrong"
        assert door.world.seen == []


async def test_a_webhook_that_comes_twice_is_handled_once_by_its_own_header():
    async with opened(routes=HOOK) as door:
        for user_agent in ("first try", "second try"):
            response = await door.post(
                "/hook",
                content=b"{}",
                headers={
                    "X-Hub-Signature-256": signature(b"{}"),
                    "X-GitHub-Delivery": "72d3162e-cc78",
                    "user-agent": user_agent,
                },
            )
            assert response.status_code == 204

        assert len(door.world.seen) == 1


# --- who may ask in dev ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1:8080"}, 200),
        ({"host": "shop.test"}, 200),
        ({"host": "evil.test"}, 403),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "http://evil.test"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_in_dev_only_its_own_names_are_answered(
    tmp_path_factory: pytest.TempPathFactory, headers: dict[str, str], status: int
):
    data = tmp_path_factory.mktemp("data")
    data.chmod(0o700)
    config: dict[str, Any] = {"env": "dev", "transport": f"sqlite:{data}", "gateway": {"hosts": ["shop.test"]}}
    async with opened(**config) as door:
        response = await door.post("/orders", json={"sku": "tea"}, headers=headers)

        assert response.status_code == status
        if status == 403:
            assert told(response)["code"] == "host.refused"
            assert door.world.seen == []
