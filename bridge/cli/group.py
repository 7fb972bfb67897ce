"""The commands by name; each is imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any

import click

from bridge import __version__, errors
from bridge.monitoring.log_text import tolerant

#: Exit codes; docs/cli.md explains them.
FAILED, WRONG_USE, UNREACHABLE = 1, 2, 3

COMMANDS = {
    "batches": "bridge.cli.batches:batches",
    "config": "bridge.cli.config:config",
    "doctor": "bridge.cli.doctor.command:doctor",
    "jobs": "bridge.cli.jobs:jobs",
    "limits": "bridge.cli.limits:limits",
    "move": "bridge.cli.moves:move",
    "moves": "bridge.cli.moves:moves",
    "pause": "bridge.cli.queues:pause",
    "push": "bridge.cli.push:push",
    "queues": "bridge.cli.queues:queues",
    "quiet": "bridge.cli.workers:quiet",
    "recover": "bridge.cli.recover:recover",
    "results": "bridge.cli.results:results",
    "resume": "bridge.cli.queues:resume",
    "status": "bridge.cli.status:status",
    "stop": "bridge.cli.workers:stop",
    "up": "bridge.cli.up:up",
    "verify": "bridge.cli.verify:verify",
}


class BridgeGroup(click.Group):
    """Finds commands in ``COMMANDS``, and turns the project's errors into one sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the alphabet."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the command. None for an unknown name."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's own, which would suggest only commands that were imported already."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"{args[0]} is not a command{f': did you mean {close[0]}?' if close else ''}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a person reads what went wrong, without a traceback."""
        tolerant(sys.stdout)
        try:
            return super().invoke(ctx)
        except errors.BridgeError as error:
            click.echo(f"bridge: {error}", err=True)
            ctx.exit(_exit_code(error))


def _exit_code(error: errors.BridgeError) -> int:
    if isinstance(error, errors.ConfigurationError | errors.PushRefused):
        return WRONG_USE
    unreachable = isinstance(error, errors.StoreUnavailable | errors.SidecarUnavailable)
    return UNREACHABLE if unreachable else FAILED


HELP = """Look after Sidekiq's queues and the workers of the bridge.

Settings are those of the worker: BRIDGE_REDIS_URL, BRIDGE_CONFIG and so on. `bridge config show` lists them.
"""


@click.group("bridge", cls=BridgeGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bridge", message="%(prog)s %(version)s")
def main() -> None:
    pass


@click.group("sidekiq", cls=BridgeGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
def sidekiq() -> None:
    pass
