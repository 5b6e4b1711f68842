"""The commands, and what becomes of an error.

A command is one row of COMMANDS and one file, which is imported only when it is asked for, so that
`posthouse --help` is quick. Whatever a command raises ends here: printed with its code and what to
do, never as a traceback, and turned into an exit status that scripts can rely on.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final, NamedTuple

import click

from posthouse.cli import exits
from posthouse.errors import PosthouseError


class Command(NamedTuple):
    """One command: where it is, and what it does in a line; hidden ones are for our own children."""

    place: str
    short: str
    hidden: bool = False


COMMANDS: Final = {
    "dev": Command("posthouse.cli.dev:dev", "run a program; starts it anew when a file changes"),
    "up": Command("posthouse.cli.up:up", "run a process per service and the gateway, and restart what dies"),
    "run": Command("posthouse.cli.run:run", "serve services in this process until it is told to end"),
    "gateway": Command("posthouse.cli.gateway:gateway", "serve the routes of all announced services over HTTP"),
    "call": Command("posthouse.cli.call:call", "ask an operation and print its reply"),
    "send": Command("posthouse.cli.call:send", "store a request that nobody waits for"),
    "publish": Command("posthouse.cli.publish:publish", "tell an event to its subscriptions"),
    "services": Command("posthouse.cli.services:services", "list the services, or show one with its schemas"),
    "queues": Command("posthouse.cli.queues:queues", "list the queues and what they hold"),
    "messages": Command("posthouse.cli.messages:messages", "list and show journaled messages, and why one is not done"),
    "outbox": Command("posthouse.cli.backlog:outbox", "list what services have asked and were not told yet"),
    "inbox": Command("posthouse.cli.backlog:inbox", "list what services were asked and have not decided yet"),
    "subscriptions": Command("posthouse.cli.subscriptions:subscriptions", "list who hears what, and how far each is"),
    "streams": Command("posthouse.cli.streams:streams", "list the journaled events that publishers keep"),
    "lanes": Command("posthouse.cli.lanes:lanes", "list the lanes between stores; bind one elsewhere, or end it"),
    "dead": Command("posthouse.cli.dead:dead", "list, show, replay and drop dead letters"),
    "check": Command("posthouse.cli.check:check", "load a program and look for mistakes, starting nothing"),
    "doctor": Command("posthouse.cli.doctor:doctor", "look at Python, SQLite, the data directory and the disk"),
    "backup": Command("posthouse.cli.backup:backup", "copy the stores of services, which may run meanwhile"),
    "verify": Command("posthouse.cli.verify:verify", "read a backup, or all stores, and say what is wrong where"),
    "restore": Command("posthouse.cli.restore:restore", "put the stores of a backup back"),
    "restores": Command("posthouse.cli.restores:restores", "show what follows from restores, and what to look at"),
    "explain": Command("posthouse.cli.explain:explain", "say what an error code means and what to do"),
    "_serve": Command("posthouse.cli.serve:serve", "", hidden=True),
    "_announce": Command("posthouse.cli.announce:announce", "", hidden=True),
}

INTERRUPTED: Final = 130
"""What a shell makes of Ctrl-C."""


class Commands(click.Group):
    """The group of all commands; imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return [name for name, command in COMMANDS.items() if not command.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        module, _, name = command.place.partition(":")
        return getattr(import_module(module), name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        from posthouse.runtime.layers import nearest

        name = args[0]
        if not name.startswith("-") and name not in COMMANDS:
            raise click.UsageError(f"there is no command {name!r}{nearest(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; that the reader of its output goes away, as `head` does, is no error (for click it is)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _give_up_output()
            return exits.FINE

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table, which needs no import."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].short) for name in self.list_commands(ctx)])


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"posthouse {version('posthouse')}")
        except PackageNotFoundError:
            click.echo("posthouse, not installed: run from its source")
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Every command takes --json, --data, --transport and --config. First steps: posthouse dev app.py",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Say which version this is."
)
def cli() -> None:
    """Asynchronous communication between services: requests, replies, events, and an HTTP gateway."""


def main() -> None:
    """Run the command line."""
    sys.exit(perform(sys.argv[1:]))


def perform(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    from posthouse.cli import complain

    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        status = cli.main(arguments, prog_name="posthouse", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return exits.USAGE
    except click.ClickException as error:
        complain.of_usage(error, as_json=as_json)
        return exits.USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except PosthouseError as error:
        complain.of_error(error, as_json=as_json, debug=debug)
        return exits.status_of(error)
    except BrokenPipeError:  # what was left in the buffer
        _give_up_output()
        return exits.FINE
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system: the disk under our output is full
            complain.of_system(error, as_json=as_json, debug=debug)
            _give_up_output()
            return exits.UNREACHABLE
        # a fault of ours: a person still gets a sentence and not a wall of frames
        complain.of_fault(error, as_json=as_json, debug=debug)
        return exits.FINDING
    return status if isinstance(status, int) else exits.FINE


def _give_up_output() -> None:
    """Write what can be written, and leave nothing that Python would stumble over at its end."""
    from posthouse.cli.output import write_nowhere

    try:
        sys.stdout.flush()
    except OSError:
        write_nowhere(sys.stdout)
