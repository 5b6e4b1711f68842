"""Names: what passes holds nothing that an engine, a file or a URL gives a meaning."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.errors import IllegalNameError
from posthouse.message.names import NAME_LIMIT, PART_LIMIT, check_name, check_part, service_of

LETTERS = set(string.ascii_letters)
HARMLESS = LETTERS | set(string.digits) | set("_-")

PARTS = st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII), fullmatch=True)


def joined(parts: list[str]) -> str:
    return ".".join(parts)


def is_part(text: str) -> bool:
    return bool(text) and text[0] in LETTERS and set(text) <= HARMLESS and len(text) <= PART_LIMIT


@given(st.one_of(st.text(), PARTS, st.text(sorted(HARMLESS | set(".*>#/\\ \n\0é")))))
@example("prices\n")
@example("préis")
@example("a" * (PART_LIMIT + 1))
@example("\u0661a")
def test_a_part_passes_if_and_only_if_it_is_made_of_letters_digits_and_two_signs(text: str):
    if is_part(text):
        assert check_part(text, "service") == text
    else:
        with pytest.raises(IllegalNameError, match="service"):
            check_part(text, "service")


@given(st.lists(st.one_of(PARTS, st.text(max_size=3)), max_size=5).map(joined))
@example("prices.quote\n")
@example("prices..quote")
@example(".prices")
@example("prices.")
@example("prices.*")
@example("prices.>")
@example("a" * 64 + "." + "b" * 64 + "." + "c" * 64 + "." + "d" * 5)
@example("a" * 64 + "." + "b" * 64 + "." + "c" * 64 + "." + "d" * 6)
def test_a_name_passes_if_and_only_if_it_has_two_parts_or_more_that_pass(name: str):
    pieces = name.split(".")
    if len(pieces) >= 2 and len(name) <= NAME_LIMIT and all(map(is_part, pieces)):
        assert check_name(name, "operation") == name
        assert service_of(name) == pieces[0]
    else:
        with pytest.raises(IllegalNameError, match="operation"):
            check_name(name, "operation")


def test_the_error_shows_the_name_so_that_what_cannot_be_seen_is_seen():
    with pytest.raises(IllegalNameError, match=r"'prices\\u200b'"):
        check_part("prices\u200b", "service")
