"""What every command takes: --json, --data, --transport, --config, --env, --debug."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from posthouse.runtime.settings import Settings

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Options:
    """What the person said on the command line about where and how.

    Attributes:
        json: print JSON, one object a line.
        data: the data directory; None for what the settings say.
        transport: the transport's URL; None for what the settings say.
        config: the file; None to look for posthouse.toml.
        env: "dev", "test" or "prod"; None for what the settings say.
        debug: show where errors came from.
    """

    json: bool = False
    data: str | None = None
    transport: str | None = None
    config: str | None = None
    env: str | None = None
    debug: bool = False

    def settings(self, **more: Any) -> Settings:
        """Return the settings that hold; `more` is nested as posthouse.toml is.

        Raises:
            ConfigError: as `posthouse.runtime.settings.load`.
        """
        from posthouse.runtime.settings import load

        said = {"data": self.data, "transport": self.transport, "env": self.env, **more}
        return load(Path(self.config) if self.config else None, overrides=said)

    def mind(self, app: str) -> None:
        """Say so when a posthouse.toml lies beside a program and is not the one that is read.

        What it says, the check of a signature for one, would be missing without a word.
        """
        from posthouse.cli import output
        from posthouse.runtime.app import file_of, place_and_name
        from posthouse.runtime.settings import FILE_NAME, in_force

        file = file_of(place_and_name(app)[0])
        beside = None if file is None else file.parent / FILE_NAME
        if beside is None or not beside.is_file():
            return
        read = in_force(Path(self.config) if self.config else None)
        if read is None or not beside.samefile(read):
            instead = "" if read is None else f", {read} is"
            output.say(f"{beside} is not read{instead}: cd to it, or name it with --config {beside}")

    def flags(self) -> list[str]:
        """Return the same options as arguments, for a child."""
        said = {"--data": self.data, "--transport": self.transport, "--config": self.config, "--env": self.env}
        return [
            *(part for flag, value in said.items() if value is not None for part in (flag, value)),
            *(["--json"] if self.json else []),
            *(["--debug"] if self.debug else []),
        ]


_DECLARED = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line."),
    click.option("--data", metavar="DIR", help="The data directory [default: .posthouse beside posthouse.toml]."),
    click.option(
        "--transport", metavar="URL", help="What carries the messages [default: SQLite in the data directory]."
    ),
    click.option("--config", metavar="FILE", help="The configuration [default: posthouse.toml here or above]."),
    click.option("--env", type=click.Choice(["dev", "test", "prod"]), help="Where this runs."),
    click.option("--debug", is_flag=True, help="Show where an error came from."),
)


def common(command: Callable[Concatenate[Options, _P], _R]) -> Callable[..., _R]:
    """Add the options that every command takes; the command gets them as its first argument."""

    @functools.wraps(command)
    def with_options(
        *args: Any,
        as_json: bool,
        data: str | None,
        transport: str | None,
        config: str | None,
        env: str | None,
        debug: bool,
        **others: Any,
    ) -> _R:
        return command(Options(as_json, data, transport, config, env, debug), *args, **others)

    declared: Any = with_options
    for option in reversed(_DECLARED):
        declared = option(declared)
    return declared
