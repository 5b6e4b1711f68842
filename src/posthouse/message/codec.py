"""Messages to frames and back.

A frame is one version byte, then the message as a MessagePack array in the order of its fields.
It is opaque to every engine: whatever an engine's own headers say is a copy for tools, and is
never read back.

Version 1: the 20 fields of message.py. A reader of version 1 takes longer arrays too (a later
minor writer may append), and keeps `extensions` whole. To change the format otherwise: raise
VERSION, keep the reader of the old one in READERS, add a frame of each age to the tests. A frame
of an unknown version is no error of its sender: it is released, for a receiver that knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from posthouse.errors import FrameError, FrameVersionError
from posthouse.message.message import Message

VERSION: Final = 1

_MARK: Final = bytes([VERSION])
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(Message).decode

# A DecodeError, but for text that is not UTF-8, and for arrays nested deeper than the interpreter goes.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

READERS: Final[Mapping[int, Callable[[bytes | memoryview], Message]]] = {1: _unpack}


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    return _MARK + _pack(message)


def decode(frame: bytes) -> Message:
    """Return the message in a frame.

    Raises:
        FrameVersionError: a later version wrote it.
        FrameError: it is not a frame.
    """
    try:
        if frame[0] == VERSION:
            return _unpack(memoryview(frame)[1:])
    except _UNREADABLE as error:
        raise FrameError(f"a frame of {len(frame)} bytes cannot be read: {error}") from error
    except IndexError:
        raise FrameError("a frame is empty") from None
    raise FrameVersionError(f"a frame is of version {frame[0]}; this posthouse reads {sorted(READERS)}")


def decode_many(frames: Iterable[bytes]) -> list[Message | FrameError]:
    """Return the message in each frame, or the error that says why there is none.

    The fast path for batches: one call, and one `try` for as long as all goes well.
    """
    frames = list(frames)
    messages: list[Message | FrameError] = []
    add = messages.append
    while len(messages) < len(frames):
        try:
            for frame in frames[len(messages) :] if messages else frames:
                add(_unpack(memoryview(frame)[1:]) if frame[:1] == _MARK else decode(frame))
        except _UNREADABLE as error:
            add(FrameError(f"a frame cannot be read: {error}"))
        except FrameError as error:
            add(error)
    return messages
