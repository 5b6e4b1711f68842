"""The grammar of names, checked before any engine, file or URL sees one.

A name is one or more parts joined by dots: a service has one part, an operation or an event two
or more, the first of which is its service. Engines give dots, stars, slashes, blanks or control
characters a meaning of their own; the parts hold none of these. A tenant is an attribute of a
message, never part of a name.
"""

from __future__ import annotations

import re
from typing import Final

from posthouse.errors import IllegalNameError

PART_LIMIT: Final = 64
NAME_LIMIT: Final = 200
_PART: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)


def check_part(part: str, what: str) -> str:
    """Return `part` if it may be a service's name, or one part of a longer one.

    Args:
        part: the name as the user wrote it.
        what: what it names, for the error: "service", "handler".

    Raises:
        IllegalNameError: it breaks the grammar.
    """
    if not _PART.fullmatch(part):
        raise IllegalNameError(f"{part!r} is not a name ({what}, 1 to {PART_LIMIT} characters)")
    return part


def check_name(name: str, what: str) -> str:
    """Return `name` if it may be the name of an operation, an event, a queue or a topic.

    Args:
        name: parts joined by dots; at least two.
        what: what it names, for the error.

    Raises:
        IllegalNameError: it breaks the grammar.
    """
    parts = name.split(".")
    if len(name) > NAME_LIMIT or len(parts) < 2 or not all(map(_PART.fullmatch, parts)):
        raise IllegalNameError(
            f"{name!r} is not a name ({what}): it needs two or more parts, as in 'prices.quote'"
            f" ({PART_LIMIT} characters a part, {NAME_LIMIT} in all)"
        )
    return name


def service_of(name: str) -> str:
    """Return the service that an operation, event or queue belongs to: the first part of its name."""
    return name.partition(".")[0]
