"""Slots: never more taken than there are, and each given back once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.flow.concurrency import Slots


def test_no_more_are_held_than_there_are():
    slots = Slots(2)

    taken = [slots.take() for _ in range(3)]

    assert taken == [True, True, False]


def test_one_that_was_given_back_can_be_held_again():
    slots = Slots(1)
    slots.take()

    slots.give()

    assert slots.take()


def test_what_nobody_holds_cannot_be_given_back():
    with pytest.raises(ValueError, match="no place is held"):
        Slots(1).give()


@given(st.integers(1, 9), st.lists(st.booleans()))
def test_however_they_come_and_go_the_count_is_right(limit: int, steps: list[bool]):
    slots = Slots(limit)
    held = 0

    for takes in steps:
        if takes:
            held += slots.take()
        elif held:
            slots.give()
            held -= 1
        assert slots.taken == held <= limit
