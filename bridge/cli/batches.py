"""``bridge batches``: look at batches, and end the wait for jobs that a person has deleted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import click

from bridge import errors
from bridge.batches import calls, missing, reader
from bridge.batches.reader import BatchStatus
from bridge.cli import output, spans
from bridge.cli.parts import Parts, pass_parts

SHOWN_MEMBERS = 50


@click.command("batches")
@click.argument("bid", required=False)
@click.option("--missing", "look", is_flag=True, help="List its jobs that are in no queue, set or worker.")
@click.option("--forget", multiple=True, metavar="JID", help="Wait for this job no longer.")
@click.option("--close", is_flag=True, help="Its push broke off: expect no more jobs.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most batches to list.")
@output.yes_option
@output.json_option
@pass_parts
def batches(
    parts: Parts,
    bid: str | None,
    look: bool,
    forget: tuple[str, ...],
    close: bool,
    limit: int,
    yes: bool,
    as_json: bool,
) -> None:
    """List the batches, the newest first; or show the batch BID and its jobs that are not done."""
    if bid is None:
        if look or forget or close:
            raise click.UsageError("name the batch: bridge batches BID --forget JID")
        _list(parts, limit, as_json)
        return
    status = _status(parts, bid)
    if forget or close:
        _end_wait(parts, status, forget, close, yes)
        status = _status(parts, bid)
    if look:
        _show_missing(parts, bid, as_json)
    else:
        _show(parts, status, as_json)


def _list(parts: Parts, limit: int, as_json: bool) -> None:
    found, now = reader.newest(parts.client, limit), parts.processes.now_ms() / 1000
    if as_json:
        output.print_json([_plain(status) for status in found])
        return
    columns = (
        "batch",
        "state",
        ">jobs",
        ">pending",
        ">failed",
        ">dead",
        ">children",
        ">age",
        ">idle",
        "description",
    )
    output.console().print(output.table(columns, [_row(status, now) for status in found]))


def _row(status: BatchStatus, now: float) -> tuple[object, ...]:
    counts = (f"{status.total:,}", f"{status.pending:,}", status.failed or "", status.dead or "")
    age, idle = (spans.readable(max(0.0, now - at)) for at in (status.created_at, status.last_moved_at))
    idle = "" if status.success_at else idle
    return (status.bid, status.state, *counts, status.children or "", age, idle, status.description)


def _plain(status: BatchStatus) -> dict[str, object]:
    return {**output.plain(status), "state": status.state}


def _status(parts: Parts, bid: str) -> BatchStatus:
    found = reader.status(parts.client, bid)
    if found is None:
        raise errors.StoreError(f"Redis knows no batch {bid}: it was never pushed, or its time is over")
    return found


def _show(parts: Parts, status: BatchStatus, as_json: bool) -> None:
    waiting = list(itertools.islice(reader.members(parts.client, status.bid), SHOWN_MEMBERS))
    if as_json:
        output.print_json({**_plain(status), "waits_for": dict(waiting)})
        return
    rows = [
        ("state", status.state),
        ("description", status.description),
        ("child of", status.parent),
        ("jobs", f"{status.total:,}"),
        ("pending", f"{status.pending:,}"),
        ("failed", status.failed or ""),
        ("dead", status.dead or ""),
        ("child batches", status.children or ""),
        ("pushed", spans.moment(status.created_at)),
        ("complete", spans.moment(status.complete_at)),
        ("done", spans.moment(status.success_at)),
        ("first death", spans.moment(status.death_at)),
    ]
    output.console().print(output.table(("", status.bid), [row for row in rows if row[1] != ""]))
    if waiting:
        output.console().print(output.table(("waits for", ""), waiting))
    more = status.pending + status.children - len(waiting)
    if more > 0:
        click.echo(f"and {output.count(more, 'other')}")


def _end_wait(parts: Parts, status: BatchStatus, forget: Sequence[str], close: bool, yes: bool) -> None:
    jobs = f"wait for {output.count(len(forget), 'job')} no longer" if forget else ""
    push = "expect no more jobs" if close else ""
    output.confirm(f"batch {status.bid}: {' and '.join(filter(None, (jobs, push)))}?", yes)
    gone = calls.forget(parts.store, status.bid, forget, close=close)
    if forget:
        click.echo(f"the batch waited for {gone} of {output.count(len(forget), 'job')}", err=True)


def _show_missing(parts: Parts, bid: str, as_json: bool) -> None:
    found = sorted(missing.jobs(parts.store, parts.entries, parts.processes, bid))
    if as_json:
        output.print_json(found)
        return
    for jid in found:
        click.echo(jid)
    click.echo(f"{output.count(len(found), 'job')} of the batch in no queue, set or worker", err=True)
