"""What was done in which life of a store: keys in its books, which a store that was put back has forgotten again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from posthouse.contracts.store import Key

if TYPE_CHECKING:
    from posthouse.contracts.store import Books

LIFE: Final = "life"
"""The scope of keys that say in which life something was done last."""

UNSURE: Final = "unsure"
"""The scope of keys that name services whose waiting calls may have had numbers in a life that was lost."""

_NEVER: Final = float("inf")


def is_new(books: Books, what: str) -> bool:
    """Say whether something was not done in this life yet, and count it as done."""
    life = str(books.identity.epoch)
    key = books.key(LIFE, what)
    if key is not None and key.reference == life:
        return False
    books.add_key(Key(LIFE, what, b"", life, _NEVER))
    return True


def was_put_back(books: Books) -> bool:
    """Say whether this is not the first life of the store."""
    return len(books.lives()) > 1


def is_unsure(books: Books, service: str) -> bool:
    """Say whether a service must be probed before what waits for it may be numbered."""
    return books.key(UNSURE, service) is not None


def make_unsure(books: Books, service: str) -> None:
    """Number nothing for a service until it has been probed."""
    books.add_key(Key(UNSURE, service, b"", str(books.identity.epoch), _NEVER))


def make_sure(books: Books, service: str) -> None:
    """Go on numbering for a service."""
    books.drop_key(UNSURE, service)
