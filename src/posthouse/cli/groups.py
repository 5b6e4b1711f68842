"""A group of commands of which one is meant when none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

_HELP: Final = frozenset({"-h", "--help"})


class LsByDefault(click.Group):
    """A group that lists when nothing else is said."""

    def parse_args(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """Put `ls` where a command should be."""
        is_ls = not args or (args[0].startswith("-") and args[0] not in _HELP)
        return super().parse_args(ctx, ["ls", *args] if is_ls else list(args))
