"""What tells the two contexts apart: the bases of the classes that a handler's second parameter names.

The contexts themselves belong to the runtime, a floor above. A declaration needs to know one thing of
them, for the type checker and at import: whether their verbs are awaited or block.
"""

from __future__ import annotations


class AwaitedContext:
    """The verbs are awaited: the second parameter of an `async def` handler."""

    __slots__ = ()


class BlockingContext:
    """The verbs block: the second parameter of a plain `def` handler, which runs in a thread."""

    __slots__ = ()
