"""``bridge results``: how tracked jobs ended, and how far running ones have come."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from bridge import errors
from bridge.cli import output, spans
from bridge.cli.parts import Parts, pass_parts
from bridge.results.record import Record

SHOWN_CHARS = 60


@click.command("results")
@click.argument("jid", required=False)
@click.option("--wait", type=click.FloatRange(0), metavar="SECONDS", help="Wait for the end of the job.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Most jobs to list."
)
@output.json_option
@pass_parts
def results(parts: Parts, jid: str | None, wait: float | None, limit: int, as_json: bool) -> None:
    """List the tracked jobs that changed last; or show the job JID."""
    if jid is None:
        if wait is not None:
            raise click.UsageError("name the job: bridge results JID --wait 10")
        _list(parts, limit, as_json)
        return
    _show(_record(parts, jid, wait), as_json)


def _record(parts: Parts, jid: str, wait: float | None) -> Record:
    found = parts.results.read(jid) if wait is None else parts.results.wait(jid, wait)
    if found is None and wait is not None:
        raise errors.ResultError(f"jid={jid} has not ended within {wait:g} s")
    return found or Record(jid, "queued")


def _list(parts: Parts, limit: int, as_json: bool) -> None:
    found = parts.results.store.recent(limit)
    if as_json:
        output.print_json([_plain(record) for record in found])
        return
    columns = ("jid", "class", "runs in", "status", ">progress", "changed", "result")
    output.console().print(output.table(columns, [_row(record) for record in found]))


def _row(record: Record) -> tuple[object, ...]:
    changed = spans.moment(record.updated_at)
    return (
        record.jid,
        record.job_class,
        record.language,
        record.status,
        _progress(record),
        changed,
        _end(record),
    )


def _progress(record: Record) -> str:
    numbers = [f"{number:g}" for number in (record.at, record.total) if number is not None]
    return " of ".join(numbers)


def _end(record: Record) -> str:
    if record.error_class:
        text = f"{record.error_class}: {record.error_message}"
    elif record.lost:
        text = f"not stored: {record.lost}"
    else:
        text = record.result or record.message
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}..."


def _show(record: Record, as_json: bool) -> None:
    if as_json:
        output.print_json(_plain(record))
        return
    rows = [
        ("class", record.job_class),
        ("status", record.status),
        ("runs in", record.language),
        ("progress", _progress(record)),
        ("message", record.message),
        ("state", record.state),
        ("meta", record.meta or ""),
        ("result", record.result or ""),
        ("not stored", record.lost),
        ("error", record.error_class),
        ("error message", record.error_message),
        ("queued", spans.moment(record.queued_at)),
        ("started", spans.moment(record.started_at)),
        ("ended", spans.moment(record.finished_at)),
        ("changed", spans.moment(record.updated_at)),
    ]
    output.console().print(output.table(("", record.jid), [row for row in rows if row[1]]))


def _plain(record: Record) -> dict[str, Any]:
    plain: dict[str, Any] = {k: v for k, v in dataclasses.asdict(record).items() if v not in (None, "")}
    for name in ("result", "meta", "children"):
        if name in plain:
            plain[name] = json.loads(plain[name])
    plain["class"] = plain.pop("job_class", None)
    return plain
