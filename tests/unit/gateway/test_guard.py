"""In dev, only what names the gateway itself passes."""

from __future__ import annotations

import pytest

from posthouse.errors import HostRefusedError
from posthouse.gateway.guard import Guard, name_of

GUARD = Guard(["192.168.1.5:8080", "shop.test", "[fd00::1]:80"])


@pytest.mark.parametrize(
    "host",
    [
        *(b"127.0.0.1", b"127.0.0.1:8080", b"localhost", b"LOCALHOST:1", b"[::1]", b"[::1]:8080"),
        *(b"192.168.1.5", b"192.168.1.5:9", b"shop.test", b"shop.test:443", b"[fd00::1]"),
    ],
)
def test_its_own_names_pass_whatever_the_port(host: bytes):
    GUARD.check("POST", {b"host": host})
    GUARD.check("POST", {b"host": host})  # remembered


@pytest.mark.parametrize(
    "host",
    [
        *(
            b"",
            b"evil.test",
            b"127.0.0.1.evil.test",
            b"localhost.evil.test",
            b"evil.test:127.0.0.1",
            b"localhost:",
            b"::1",
        ),
        *(b"localhost:80@evil.test", b"[::1].evil.test", b"[::1]evil", b"0.0.0.0", b"127.0.0.2", b"[::1]:x"),
    ],
)
def test_any_other_host_is_refused(host: bytes):
    with pytest.raises(HostRefusedError):
        GUARD.check("GET", {b"host": host})


def test_without_a_host_it_is_refused():
    with pytest.raises(HostRefusedError):
        GUARD.check("GET", {})


@pytest.mark.parametrize("origin", [b"http://localhost:3000", b"https://127.0.0.1", b"http://shop.test"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_page_of_its_own_may_write(method: str, origin: bytes):
    GUARD.check(method, {b"host": b"localhost", b"origin": origin})


@pytest.mark.parametrize(
    "origin", [b"http://evil.test", b"null", b"", b"https://localhost.evil.test", b"file://", b"chrome://localhost"]
)
@pytest.mark.parametrize(("method", "passes"), [("GET", True), ("HEAD", True), ("POST", False), ("DELETE", False)])
def test_a_page_of_another_site_may_read_nothing_secret_and_write_nothing(method: str, passes: bool, origin: bytes):
    headers = {b"host": b"localhost", b"origin": origin}

    if passes:
        GUARD.check(method, headers)
    else:
        with pytest.raises(HostRefusedError):
            GUARD.check(method, headers)


@pytest.mark.parametrize(
    ("host", "name"),
    [("A.b:80", "a.b"), ("[::1]:8080", "[::1]"), ("::1", ""), ("a:b", ""), ("[::1", ""), ("a:", ""), ("a:٣", "")],
)
def test_a_name_is_what_stands_before_the_port(host: str, name: str):
    assert name_of(host) == name


def test_names_that_passed_are_remembered_up_to_a_number():
    guard = Guard([])

    for port in range(10_000):
        guard.check("GET", {b"host": b"localhost:%d" % port})

    assert len(guard._passed) < 100
