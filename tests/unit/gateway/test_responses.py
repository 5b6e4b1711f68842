"""HTTP responses: replies as they are, errors as problem details."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from posthouse.errors import (
    DiskFullError,
    FailedError,
    InvalidDataError,
    MethodNotAllowedError,
    NotServedError,
    OutcomeUnknownError,
    PosthouseError,
    QueueFullError,
    QueueUnknownError,
    Reject,
    every_error,
)
from posthouse.gateway.responses import Response, accepted, from_outcome, from_reply, pending, problem
from posthouse.message.message import Kind, Message, Refusal
from posthouse.runtime.steps.wire import Outcome
from tests.unit.gateway.makers import record


def answered(data: bytes = b"", refusal: Refusal | None = None, content_type: str = "", **of: Any) -> Response:
    reply = Message(Kind.REPLY, "r1", "shop.buy", "shop", 0.0, data, content_type=content_type, refusal=refusal)
    return from_reply(reply, record("POST /orders", **of), shows_causes=True)


def members(response: Response) -> dict[str, Any]:
    assert dict(response.headers)[b"content-type"] == b"application/problem+json"
    assert dict(response.headers)[b"content-length"] == b"%d" % len(response.body)
    return msgspec.json.decode(response.body)


def test_data_goes_out_as_it_is():
    response = answered(b'{"sku":"a"}')

    assert (response.status, response.body) == (200, b'{"sku":"a"}')
    assert response.headers == [(b"content-type", b"application/json"), (b"content-length", b"11")]


@pytest.mark.parametrize(
    ("data", "reply", "status", "expected", "body"),
    [
        (b"null", None, 0, 204, b""),
        (b"", None, 0, 204, b""),
        (b"null", None, 201, 201, b""),
        (b"null", int | None, 0, 200, b"null"),
        (b"1", int | None, 0, 200, b"1"),
        (b"1", int, 202, 202, b"1"),
    ],
)
def test_the_contract_says_the_status_and_nothing_is_204(
    data: bytes, reply: Any, status: int, expected: int, body: bytes
):
    response = answered(data, reply=reply, status=status)

    assert (response.status, response.body) == (expected, body)
    assert dict(response.headers).get(b"content-length") == (None if expected == 204 else b"%d" % len(body))


def test_a_reply_may_be_of_another_type():
    assert answered(b"<a/>", content_type="text/xml").headers[0] == (b"content-type", b"text/xml")


def test_a_reject_is_a_problem_with_its_details_as_members():
    response = answered(refusal=Refusal("card.refused", "the bank says no", 402, "", b'{"bank":"x","type":"t","id":7}'))

    assert response.status == 402
    assert members(response) == {
        "type": "urn:posthouse:error:card.refused",
        "title": "card.refused",
        "status": 402,
        "detail": "the bank says no",
        "code": "card.refused",
        "id": "r1",
        "bank": "x",
        "details": {"type": "t", "id": 7},
    }


@pytest.mark.parametrize("details", [b"", b"[1]", b"{", b"\xff", b'{"a":"\xff"}', b'"text"'])
def test_details_that_cannot_be_read_do_not_hide_the_refusal(details: bytes):
    assert members(answered(refusal=Refusal("odd", "no", 409, "", details)))["code"] == "odd"


def test_a_code_of_any_text_makes_a_uri():
    assert members(problem(Reject("no", code="a b/ü")))["type"] == "urn:posthouse:error:a%20b%2F%C3%BC"


@pytest.mark.parametrize(("status", "told"), [(399, 500), (400, 400), (599, 599), (600, 500), (200, 500), (0, 500)])
def test_an_error_has_the_status_of_an_error(status: int, told: int):
    error = Reject("no")
    error.status = status  # as a program of another version may have written it on the wire

    assert problem(error).status == told


def test_the_cause_of_a_failure_is_for_developers():
    failed = FailedError("shop.buy failed after 3 attempts: KeyError: 'secret'", message_id="r1")

    assert "KeyError" in members(problem(failed, shows_causes=True))["detail"]
    hidden = members(problem(failed, shows_causes=False))
    assert "secret" not in str(hidden)
    assert (hidden["code"], hidden["id"], hidden["status"]) == ("handler.failed", "r1", 500)


def test_where_the_engine_keeps_its_files_is_shown_only_to_developers():
    full = DiskFullError("the disk of /srv/secret-place/transport.db is full")

    assert "/srv/secret-place" in members(problem(full, shows_causes=True))["detail"]
    hidden = problem(full, shows_causes=False)
    assert b"secret-place" not in hidden.body
    assert (hidden.status, members(hidden)["code"]) == (507, "disk.full")


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("Expected `int`, got `str` - at `$.lines[0].qty`", "$.lines[0].qty", "Expected `int`, got `str`"),
        ("Object missing required field `sku` - at `$.first`", "$.first.sku", "Object missing required field `sku`"),
        ("Object contains unknown field `role`", "$.role", "Object contains unknown field `role`"),
        ("Expected `object`, got `int`", "$", "Expected `object`, got `int`"),
    ],
)
def test_data_that_does_not_fit_is_told_with_the_place(text: str, path: str, message: str):
    told = members(problem(InvalidDataError(text)))

    assert (told["status"], told["errors"]) == (422, [{"path": path, "message": message}])


@pytest.mark.parametrize(
    ("error", "status", "again"),
    [
        (QueueFullError("shop.buy", 10), 503, True),
        (NotServedError("nobody"), 503, True),
        (QueueUnknownError("gone"), 503, True),
        (Reject("slow down", status=429), 429, True),
        (DiskFullError("no room"), 507, True),
        (OutcomeUnknownError("died"), 504, False),
        (Reject("no"), 422, False),
    ],
)
def test_what_may_go_well_later_says_when_to_come_again(error: PosthouseError, status: int, again: bool):
    response = problem(error)

    assert response.status == status
    assert (b"retry-after" in dict(response.headers)) is again


def test_a_wrong_method_is_told_the_right_ones():
    assert (b"allow", b"GET, HEAD") in problem(MethodNotAllowedError("no", allowed="GET, HEAD")).headers


@pytest.mark.parametrize("kind", list(every_error()), ids=lambda kind: kind.code)
def test_every_error_of_ours_is_a_problem(kind: type[PosthouseError]):
    error = kind.__new__(kind)
    Exception.__init__(error, "what happened")
    error.message_id = "r1"
    if isinstance(error, Reject):
        error.details = {}

    told = members(problem(error, shows_causes=True))

    assert (told["code"], told["detail"], told["id"]) == (kind.code, "what happened", "r1")
    assert told["title"]
    assert 400 <= told["status"] <= 599


@pytest.mark.parametrize("known", [True, False])
def test_a_stored_outcome_is_what_the_reply_would_have_been(known: bool):
    contract = record("POST /orders", status=201) if known else None

    good = from_outcome(Outcome(b'{"sku":"a"}'), contract, id="r1", shows_causes=True)
    nothing = from_outcome(
        Outcome(b"null"), None if contract is None else record("POST /x", reply=None), id="r1", shows_causes=True
    )
    no = from_outcome(Outcome(b"", Refusal("card.refused", "no", 402)), contract, id="r1", shows_causes=True)

    assert (good.status, good.body) == (201 if known else 200, b'{"sku":"a"}')
    assert (nothing.status, nothing.body) == (204, b"")
    assert (no.status, members(no)["code"], members(no)["id"]) == (402, "card.refused", "r1")


def test_an_open_request_says_how_it_stands():
    assert msgspec.json.decode(pending("r1", root="", state="parked").body) == {"id": "r1", "state": "parked"}


def test_an_open_request_says_where_and_when_to_ask():
    response = accepted("r1", root="/api", applied="respond-async")

    assert response.status == 202
    assert dict(response.headers)[b"location"] == b"/api/requests/r1"
    assert dict(response.headers)[b"retry-after"] == b"1"
    assert dict(response.headers)[b"preference-applied"] == b"respond-async"
    assert msgspec.json.decode(response.body) == {"id": "r1", "state": "pending"}
