"""JSON on the command line, held against the schema that the service announced.

The command line knows no types of the user's: it sends the bytes as they are, once they have been
seen to fit.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from posthouse.cli.output import plain
from posthouse.errors import InvalidDataError, UsageError
from posthouse.message.schema import type_from


def read(text: str) -> bytes:
    """Return the JSON that a person gave: as an argument, "-" for stdin, "@FILE" for a file.

    Raises:
        UsageError: it is not JSON, or cannot be read.
    """
    try:
        if text == "-":
            data = sys.stdin.buffer.read()
        elif text.startswith("@"):
            with open(text[1:], "rb") as file:
                data = file.read()
        else:
            data = text.encode()
        msgspec.json.decode(data)
    except OSError as error:
        raise UsageError(f"{text[1:]} cannot be read: {error.strerror}") from error
    except RecursionError:
        raise UsageError("the data is nested too deep") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise UsageError(
            f"the data is not JSON: {error}",
            hint="""Quote it for the shell: '{"sku": "tea"}'; - reads stdin, @FILE a file.""",
        ) from None
    return data


def check(data: bytes, schema: Mapping[str, Any], name: str) -> None:
    """See that data fits what `name` takes.

    Raises:
        InvalidDataError: it does not; the text names the field.
    """
    try:
        msgspec.json.decode(data, type=type_from(schema))
    except msgspec.ValidationError as error:
        raise InvalidDataError(f"the data does not fit {name}: {error}") from None


def shown(data: bytes) -> str:
    """Return data of others as people read it, without control characters."""
    try:
        return plain(msgspec.json.format(data, indent=2).decode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return repr(data)


def as_json(data: bytes) -> msgspec.Raw:
    """Return data of others as it can stand within JSON: as it is, or written out when it is none."""
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(repr(data)))
    return msgspec.Raw(data)
