"""``bridge jobs``: look at waiting jobs, and do to them what the Web UI does."""

from __future__ import annotations

import itertools
import json
from typing import Any

import click

from bridge.cli import cancelling, completion, mass, naming, output, spans
from bridge.cli.group import FAILED
from bridge.cli.locate import Found, find
from bridge.cli.parts import Parts, pass_parts
from bridge.cli.selecting import PLACE, filters, selection
from bridge.monitoring.log_text import escaped
from bridge.sidekiq.api.entries import Entry, Place
from bridge.sidekiq.payload import backtrace

MESSAGE_CHARS = 60


@click.group("jobs")
def jobs() -> None:
    """Look at waiting jobs, and retry, kill, delete or cancel them.

    PLACE is retry, schedule, dead or queue:NAME.
    """


@jobs.command("list")
@click.argument("place", type=PLACE)
@filters
@click.option(
    "--limit", type=click.IntRange(0), default=50, show_default=True, help="Most jobs to list; 0 for all."
)
@output.json_option
@pass_parts
def list_(parts: Parts, /, place: Place, limit: int, as_json: bool, **said: Any) -> None:
    """List the jobs of PLACE, the next to run first; of the dead the latest first. JSON: one job a line."""
    wanted, now = selection((), **said), parts.processes.now_ms() / 1000
    found = (entry for entry in parts.entries.in_order(place) if wanted.takes(entry, now))
    shown = itertools.islice(found, limit or None)
    if as_json:
        for entry in shown:
            output.print_json(summary(entry))
        return
    output.console().print(output.table(_columns(place), (_row(entry, now) for entry in shown)))
    total = parts.entries.size(place)
    click.echo(f"{'' if wanted.is_everything else 'among '}{output.count(total, 'job')} in {place}")
    naming.hint_at_queues(parts, [place.queue] if place.queue else ())


@jobs.command("show")
@click.argument("jid", shell_complete=completion.JIDS)
@output.json_option
@pass_parts
@click.pass_context
def show(ctx: click.Context, parts: Parts, jid: str, as_json: bool) -> None:
    """Show a job wherever it is: waiting, running, in a worker's hands. Exit code 1 when it is nowhere."""
    found = find(parts, jid)
    if as_json:
        output.print_json([{**summary(one.entry), "where": one.where, **_details(one)} for one in found])
    for one in found if not as_json else ():
        _print_job(one)
    if not found:
        click.echo(f"no job {jid}: it is done, was deleted, or never was", err=True)
        ctx.exit(FAILED)


jobs.add_command(mass.retry)
jobs.add_command(mass.kill)
jobs.add_command(mass.delete)
jobs.add_command(cancelling.cancel)


def summary(entry: Entry) -> dict[str, Any]:
    """What ``--json`` prints of a job; times in epoch seconds."""
    job, fields = entry.job, entry.job.fields
    return {
        "jid": job.jid,
        "class": job.display_class,
        "args": job.args,
        "place": entry.place.key,
        "queue": entry.place.queue or job.queue,
        "at": entry.score,
        "since": entry.since,
        "created_at": job.created_at,
        "retry_count": job.retry_count,
        "error_class": fields.get("error_class"),
        "error_message": fields.get("error_message"),
    }


def _details(found: Found) -> dict[str, Any]:
    return {
        "payload": found.entry.member,
        "backtrace": backtrace.decode(found.entry.job.fields.get("error_backtrace")),
    }


def _columns(place: Place) -> tuple[str, ...]:
    if place.queue:
        return ("jid", "class", ">waits", "error")
    return ("jid", "class", "queue", "died" if place.key == "dead" else "due", ">tries", "error")


def _row(entry: Entry, now: float) -> tuple[object, ...]:
    job = entry.job
    name = job.display_class or "(no job)"
    if entry.place.queue:
        waits = spans.readable(None if entry.since is None else max(0.0, now - entry.since))
        return (job.jid or "", name, waits, _error(entry))
    tries = "" if job.retry_count is None else job.retry_count + 1
    return (job.jid or "", name, job.queue or "", spans.moment(entry.score), tries, _error(entry))


def _error(entry: Entry) -> str:
    fields = entry.job.fields
    if not fields.get("error_class"):
        return ""
    return " ".join(f"{fields['error_class']}: {fields.get('error_message') or ''}".split())[:MESSAGE_CHARS]


def _print_job(found: Found) -> None:
    entry, job = found.entry, found.entry.job
    rows: list[tuple[str, object]] = [
        ("where", found.where),
        ("class", job.display_class or "(no job)"),
        ("arguments", json.dumps(job.args, ensure_ascii=False)),
        ("queue", entry.place.queue or job.queue or ""),
        ("due or died", spans.moment(entry.score)),
        ("created", spans.moment(job.created_at)),
        ("failed first", spans.moment(job.failed_at)),
        ("failures", "" if job.retry_count is None else job.retry_count + 1),
        ("error", _error(entry)),
    ]
    output.console().print(output.table(("", job.jid or ""), [row for row in rows if row[1] != ""]))
    # Not in the table, which would cut it to the width of the terminal.
    click.echo(f"payload      {escaped(entry.member.decode(errors='replace'))}")
    for line in backtrace.decode(job.fields.get("error_backtrace")):
        click.echo(f"  {escaped(line)}")
