"""The Prefer header."""

from __future__ import annotations

import pytest

from posthouse.gateway.preferences import preferred


@pytest.mark.parametrize(
    ("header", "wait", "applied"),
    [
        (b"respond-async", 0.0, "respond-async"),
        (b"Respond-Async", 0.0, "respond-async"),
        (b"wait=10, respond-async", 0.0, "respond-async"),
        (b"respond-async; foo=bar", 0.0, "respond-async"),
        (b"wait=2", 2.0, "wait=2"),
        (b'wait = "2"', 2.0, "wait=2"),
        (b"wait=0", 0.0, "wait=0"),
        (b"wait=5", 5.0, "wait=5"),
        (b"wait=6", 5.0, ""),
        (b"wait=-1", 5.0, ""),
        (b"wait=x", 5.0, ""),
        (b"wait=99999999999999999999", 5.0, ""),
        (b"handling=lenient", 5.0, ""),
        (b"", 5.0, ""),
        (b"\xff\xfe", 5.0, ""),
    ],
)
def test_a_preference_shortens_the_wait_and_never_makes_it_longer(header: bytes, wait: float, applied: str):
    assert preferred(header, 5.0) == (wait, applied)
