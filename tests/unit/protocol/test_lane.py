"""Which numbers of a lane are over: a floor and ranges say the same as the set of them would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.lane import Numbers

NUMBER = st.integers(0, 30)
RUN = st.tuples(NUMBER, st.integers(0, 12)).map(lambda run: (run[0], run[0] + run[1]))


@given(st.sets(NUMBER), st.lists(RUN, max_size=4))
def test_what_is_taken_out_is_not_over_and_all_else_stays(over: set[int], taken: list[tuple[int, int]]):
    numbers = Numbers()
    numbers.add_all(sorted(over))

    for first, last in taken:
        numbers.take_out(first, last)

    gone = {number for first, last in taken for number in range(first, last + 1)}
    left = over - gone
    as_if_never_over = Numbers()
    as_if_never_over.add_all(sorted(left))
    assert numbers == as_if_never_over
    assert {number for number in range(50) if numbers.holds(number)} == left
