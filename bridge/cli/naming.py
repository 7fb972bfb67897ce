"""Names of queues as a person typed them."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Iterable, Sequence

import click

from bridge.cli.parts import Parts
from bridge.sidekiq.payload.queue_names import QUEUE_NAME


def check(names: Sequence[str]) -> Sequence[str]:
    """The same names. Raises UsageError for one that Sidekiq's pages could not show."""
    for name in names:
        if not QUEUE_NAME.fullmatch(name):
            raise click.UsageError(f"{name} cannot be the name of a queue: letters, digits and _ : . - only")
    return names


def confirm_queues(parts: Parts, names: Collection[str], act: str, yes: bool) -> None:
    """Ask before an act on a queue without jobs that no process serves.

    ``act`` is the rest of the question: ``pause it``. Off a terminal no person can answer. On a Redis without
    any queue there is nothing to compare a name with.

    Raises:
        UsageError: the name is unknown, no person can be asked, and ``--yes`` is not there.
    """
    known = set() if yes else _known(parts)
    for name in sorted({*names} - known) if known else ():
        said = f"no queue {name} is known{_suggestion(name, known, '.')}"
        if not sys.stdin.isatty():
            raise click.UsageError(f"{said} Add --yes to {act} all the same")
        click.confirm(f"N{said[1:]} {act.capitalize()} all the same?", abort=True, err=True)


def hint_at_queues(parts: Parts, names: Collection[str]) -> None:
    """Say on stderr which of these queues have no jobs and no process: the name may be a slip."""
    if not names:
        return  # of sets, not of queues: nothing to ask Redis
    known = _known(parts)
    for name in names:
        if name not in known:
            click.echo(f"no queue {name} is known{_suggestion(name, known)}", err=True)


def hint_when_unserved(parts: Parts, name: str) -> None:
    """Say on stderr that no process takes from this queue at present."""
    served = {queue for row in parts.processes.all() for queue in row.queues}
    if name not in served:
        click.echo(f"no process serves queue {name} at present{_suggestion(name, served, '')}", err=True)


def _known(parts: Parts) -> set[str]:
    served = {name for row in parts.processes.all() for name in row.queues}
    return served | {row.name for row in parts.processes.queues()}


def _suggestion(name: str, known: Iterable[str], otherwise: str = " yet") -> str:
    close = difflib.get_close_matches(name.removeprefix("queue:"), known, n=1)
    return f": did you mean {close[0]}?" if close else otherwise
