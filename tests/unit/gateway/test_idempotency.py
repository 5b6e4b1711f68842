"""What is an idempotency key, and what it was used for."""

from __future__ import annotations

import pytest

from posthouse.errors import HttpError
from posthouse.gateway.idempotency import Given, read_key


def key(header: bytes = b"k", *, path: str = "/orders", query: bytes = b"", body: bytes = b"{}") -> Given:
    return read_key(header, path=path, query=query, body=body)


@pytest.mark.parametrize(
    ("header", "fits"),
    [(b"", False), (b"k", True), (b"k" * 255, True), (b"k" * 256, False), (b"a b", True), (b"a\tb", False)],
)
def test_a_key_has_1_to_255_printable_characters(header: bytes, fits: bool):
    if fits:
        assert key(header).key == header.decode()
    else:
        with pytest.raises(HttpError):
            key(header)


def test_what_is_asked_under_it_is_path_query_and_body():
    same = key()

    assert key() == same
    assert key(path="/orders/1").digest != same.digest
    assert key(query=b"a=1").digest != same.digest
    assert key(body=b"{ }").digest != same.digest
