"""``bridge status``: everything on one screen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from bridge import errors
from bridge.cli import output, queues, sidecars, spans
from bridge.cli.parts import Parts, pass_parts
from bridge.cli.sidecars import SidecarRow
from bridge.sidekiq.api.processes import LeaseRow, ProcessRow, QueueRow, Totals


@dataclass(frozen=True, slots=True)
class Status:
    """The state at one moment."""

    at: float
    redis: str
    totals: Totals
    queues: list[QueueRow]
    processes: list[ProcessRow]
    leases: list[LeaseRow]
    sidecars: list[SidecarRow]


@click.command("status")
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@spans.seconds_option("--interval", "interval", 0.1, 2.0, "Seconds between two looks of --watch.")
@output.json_option
@pass_parts
def status(parts: Parts, watch: bool, interval: float, as_json: bool) -> None:
    """Show counters, queues, workers and sidecars. With --watch --json: one object a line."""
    if watch:
        _watch(parts, interval, as_json)
    elif as_json:
        output.print_json(look(parts))
    else:
        output.console().print(screen(look(parts)))


def look(parts: Parts) -> Status:
    """Ask everybody. Raises StoreUnavailable; a sidecar that does not answer is a row that says so."""
    processes = parts.processes
    return Status(
        processes.now_ms() / 1000,
        str(parts.settings.redis_url),
        processes.totals(),
        processes.queues(),
        processes.all(),
        processes.leases(),
        sidecars.ask(parts),
    )


def screen(found: Status) -> RenderableType:
    """The whole screen."""
    return Group(
        _headline(found),
        Text(),
        queues.table(found.queues, found.processes),
        Text(),
        _processes(found),
        Text(),
        sidecars.table(found.sidecars),
    )


def _watch(parts: Parts, interval: float, as_json: bool) -> None:
    try:
        if as_json:
            while True:
                output.print_json(look(parts))
                time.sleep(interval)
        with Live(screen(look(parts)), console=output.console(), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(interval)
                live.update(_screen_or_reason(parts), refresh=True)
    except KeyboardInterrupt:
        pass  # this is how one leaves it


def _screen_or_reason(parts: Parts) -> RenderableType:
    try:
        return screen(look(parts))
    except errors.StoreUnavailable as error:
        return Text(f"Redis does not answer: {error}")  # it may be back at the next look


def _headline(found: Status) -> Text:
    totals = found.totals
    held = sum(lease.held for lease in found.leases)
    return Text(
        f"{found.redis}   {spans.moment(found.at)}\n"
        f"processed {totals.processed:,} (today {totals.processed_today:,})   "
        f"failed {totals.failed:,} (today {totals.failed_today:,})   "
        f"in flight {held:,}   "
        f"retry {totals.retry:,}   schedule {totals.schedule:,}   dead {totals.dead:,}"
    )


def _processes(found: Status) -> RenderableType:
    columns = ("worker", "kind", ">busy", ">of", ">memory", ">started", "queues", "")
    return output.table(columns, [_process(row, found) for row in found.processes])


def _process(row: ProcessRow, found: Status) -> tuple[Any, ...]:
    kind = "bridge" if row.is_bridge else f"Sidekiq {row.version}".strip()
    memory = f"{row.rss_bytes / 1048576:.0f} MB"
    started = spans.readable(max(0.0, found.at - row.started_at)) if row.started_at else ""
    late = found.at - row.beat_at > 30
    note = ", ".join(word for word, so in (("quiet", row.quiet), ("heartbeat late", late)) if so)
    return (row.identity, kind, row.busy, row.concurrency, memory, started, ",".join(row.queues), note)
