"""Signatures of webhooks."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from posthouse.errors import ConfigError, SignatureError
from posthouse.gateway.webhooks import Verifier, verifier
from posthouse.runtime.settings import SignatureSettings

BODY = b'{"zen":"Speak like a human."}'
GITHUB = SignatureSettings(header="X-Hub-Signature-256", prefix="sha256=", secret="It's a Secret to Everybody")


def signed(body: bytes, secret: bytes = b"It's a Secret to Everybody") -> bytes:
    return b"sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest().encode()


@pytest.fixture
def github() -> Verifier:
    return verifier(GITHUB, "POST /github")


def test_the_example_of_githubs_own_documentation_is_right(github: Verifier):
    # docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries, "Testing the webhook payload validation"
    signature = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    github.check({b"x-hub-signature-256": signature}, b"Hello, World!")


@pytest.mark.parametrize(
    "signature",
    [
        None,
        b"",
        b"sha256=",
        signed(BODY)[:-1],
        signed(BODY) + b"0",
        signed(BODY).removeprefix(b"sha256="),
        signed(BODY).upper(),
        signed(BODY, b"another secret"),
        signed(BODY + b" "),
        b"sha256=\xff",
    ],
)
def test_a_missing_and_a_wrong_signature_get_the_same_answer(github: Verifier, signature: bytes | None):
    headers = {} if signature is None else {b"x-hub-signature-256": signature}

    with pytest.raises(SignatureError) as caught:
        github.check(headers, BODY)

    assert str(caught.value) == "the signature of the webhook is missing or wrong"


def test_the_signature_is_over_the_exact_bytes(github: Verifier):
    github.check({b"x-hub-signature-256": signed(BODY)}, BODY)
    with pytest.raises(SignatureError):
        github.check({b"x-hub-signature-256": signed(BODY)}, BODY + b"\n")


def test_the_secret_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv("HOOK", "from outside")

    for place, secret in ((f"file:{tmp_path / 'secret'}", b"from a file"), ("env:HOOK", b"from outside")):
        settings = SignatureSettings(header="X-Signature", prefix="sha256=", secret=place)
        verifier(settings, "POST /x").check({b"x-signature": signed(BODY, secret)}, BODY)


@pytest.mark.parametrize("secret", ["file:/nowhere/at/all", "env:NOT_SET_ANYWHERE", ""])
def test_a_secret_that_is_not_there_is_told_before_anything_is_served(secret: str):
    with pytest.raises(ConfigError, match="POST /x"):
        verifier(SignatureSettings(header="X", secret=secret), "POST /x")
