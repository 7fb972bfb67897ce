"""``bridge quiet`` and ``bridge stop``."""

from __future__ import annotations

import click

from bridge.cli import completion, output
from bridge.cli.group import FAILED
from bridge.cli.parts import Parts, pass_parts
from bridge.sidekiq.api import commands
from bridge.sidekiq.api.processes import ProcessRow

_ARGUMENT = click.argument(
    "identities", nargs=-1, metavar="[IDENTITY]...", shell_complete=completion.IDENTITIES
)
_ALL = click.option("--all", "everyone", is_flag=True, help="Every worker of the bridge.")
_RUBY = click.option("--sidekiq", "ruby", is_flag=True, help="With --all: Sidekiq processes as well.")


@click.command("quiet")
@_ARGUMENT
@_ALL
@_RUBY
@pass_parts
@click.pass_context
def quiet(ctx: click.Context, parts: Parts, identities: tuple[str, ...], everyone: bool, ruby: bool) -> None:
    """Let workers take no more jobs, as the Busy page's Quiet does. Only a restart undoes it.

    IDENTITY is what `bridge status` shows, or its beginning.
    """
    _signal(ctx, parts, commands.QUIET, _meant(parts, identities, everyone, ruby))


@click.command("stop")
@_ARGUMENT
@_ALL
@_RUBY
@output.yes_option
@pass_parts
@click.pass_context
def stop(
    ctx: click.Context, parts: Parts, identities: tuple[str, ...], everyone: bool, ruby: bool, yes: bool
) -> None:
    """Stop workers, as the Busy page's Stop does: running jobs get their time, the rest goes back."""
    meant = _meant(parts, identities, everyone, ruby)
    if meant:
        running = output.count(sum(row.busy for row in meant), "job")
        output.confirm(f"Stop {output.count(len(meant), 'worker')} ({running} running)?", yes)
    _signal(ctx, parts, commands.STOP, meant)


def _meant(parts: Parts, identities: tuple[str, ...], everyone: bool, ruby: bool) -> list[ProcessRow]:
    if bool(identities) == everyone:
        raise click.UsageError("name workers (`bridge status` lists them), or say --all: one of the two")
    if ruby and not everyone:
        raise click.UsageError("--sidekiq goes with --all; a Sidekiq process is named like any other")
    rows = parts.processes.all()
    if everyone:
        return [row for row in rows if row.is_bridge or ruby]
    return [_named(rows, identity) for identity in identities]


def _named(rows: list[ProcessRow], identity: str) -> ProcessRow:
    found = [row for row in rows if row.identity.startswith(identity)]
    if len(found) != 1:
        how = "is not a worker" if not found else f"is the beginning of {len(found)} workers"
        raise click.UsageError(f"{identity} {how}: `bridge status` lists them")
    return found[0]


def _signal(ctx: click.Context, parts: Parts, name: str, meant: list[ProcessRow]) -> None:
    for row in meant:
        parts.commands.signal(row.identity, name)
        click.echo(f"{row.identity}: told; it obeys within its next beats (5 to 10 s)")
    if not meant:
        click.echo("no worker is there", err=True)
        ctx.exit(FAILED)
