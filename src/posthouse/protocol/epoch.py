"""Epochs: which life of a store a message was meant for.

A store has an id for ever and an epoch for each of its lives; a new one is minted when it is made
and whenever it was restored. Every journaled message names the lives that it knows of, so that the one
side notices what the other has forgotten. A stamp that is not known yet counts as wrong: whoever gets it
says who it is, and the request is sent again.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from posthouse.message.message import Lane


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Which store it is, and in which life.

    Attributes:
        id: random, and unique for ever.
        epoch: grows with each life; 0 is none.
    """

    id: str = ""
    epoch: int = 0


class Meant(enum.Enum):
    """For whom a message was meant, as its receiver sees it."""

    US = enum.auto()
    ANOTHER_LIFE = enum.auto()
    """This store, before it was restored, or one who does not know which yet."""
    ANOTHER_STORE = enum.auto()
    """A store that had our name, or has it elsewhere."""


def meant_for(identity: Identity, store: str, epoch: int) -> Meant:
    """Say whether the receiver with this identity is the one that a stamp names."""
    if store == identity.id and epoch == identity.epoch:
        return Meant.US
    return Meant.ANOTHER_STORE if store and store != identity.id else Meant.ANOTHER_LIFE


def asked_by(stamps: Lane) -> Identity:
    """Return the life of the caller's store that a message names."""
    return Identity(stamps.caller_store, stamps.caller_epoch)
