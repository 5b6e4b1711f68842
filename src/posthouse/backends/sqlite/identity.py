"""Which file is at a path: told by device and inode, so that one that was deleted or replaced is noticed.

An inode is not given to another file for as long as somebody has it open. So who remembers the identity of
a file that it holds open cannot take another one for it.
"""

from __future__ import annotations

import os
from typing import TypeAlias

Identity: TypeAlias = tuple[int, int]
"""What tells a file from all others: its device and inode."""


def identity(path: str) -> Identity | None:
    """Return the identity of the file at a path; None when there is none."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def stands(path: str, file: Identity) -> bool:
    """Return whether a file is still at its path, or that cannot be found out."""
    try:
        return identity(path) == file
    except OSError:
        return True
