"""``bridge queues``, ``pause`` and ``resume``."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import RenderableType

from bridge.cli import completion, naming, output, spans
from bridge.cli.parts import Parts, pass_parts
from bridge.sidekiq.api.processes import ProcessRow, QueueRow


@click.command("queues")
@output.json_option
@pass_parts
def queues(parts: Parts, as_json: bool) -> None:
    """List the queues: jobs, how long the next one has waited, and who serves them."""
    rows, processes = parts.processes.queues(), parts.processes.all()
    if as_json:
        output.print_json([{**output.plain(row), **_served(row.name, processes)} for row in rows])
        return
    output.console().print(table(rows, processes))


def table(rows: Sequence[QueueRow], processes: Sequence[ProcessRow]) -> RenderableType:
    """The queues as a table."""
    return output.table(
        ("queue", ">jobs", ">latency", ">bridge workers", ">Sidekiq processes", ""),
        [_row(row, _served(row.name, processes)) for row in rows],
    )


def _row(row: QueueRow, served: dict[str, int]) -> tuple[object, ...]:
    note = "paused" if row.paused else "no process serves it" if not any(served.values()) else ""
    latency = spans.readable(row.latency_seconds) if row.size else ""
    return (row.name, f"{row.size:,}", latency, served["bridge_workers"], served["sidekiq_processes"], note)


def _served(name: str, processes: Sequence[ProcessRow]) -> dict[str, int]:
    serving = [row for row in processes if name in row.queues and not row.quiet]
    of_bridge = sum(row.is_bridge for row in serving)
    return {"bridge_workers": of_bridge, "sidekiq_processes": len(serving) - of_bridge}


@click.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...", shell_complete=completion.QUEUES)
@output.yes_option
@pass_parts
def pause(parts: Parts, names: tuple[str, ...], yes: bool) -> None:
    """Keep all processes from taking jobs from QUEUE until `resume`.

    Workers of the bridge and Sidekiq Pro heed it at once; open-source Sidekiq processes do not know of it.
    """
    naming.confirm_queues(parts, naming.check(names), "pause it", yes)
    for name in names:
        click.echo(f"{name}: {'paused' if parts.commands.pause(name) else 'was paused already'}")
    deaf = sum(not row.is_bridge and bool(set(names) & set(row.queues)) for row in parts.processes.all())
    if deaf:
        who = output.count(deaf, "Sidekiq process", "Sidekiq processes")
        click.echo(f"also served by {who}: only Sidekiq Pro heeds this", err=True)


@click.command("resume")
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...", shell_complete=completion.QUEUES)
@pass_parts
def resume(parts: Parts, names: tuple[str, ...]) -> None:
    """Let workers take jobs from QUEUE again."""
    for name in names:
        resumed = parts.commands.resume(name)
        click.echo(f"{name}: {'resumed' if resumed else 'was not paused'}")
        if not resumed:
            naming.hint_at_queues(parts, [name])
