"""``bridge limits``: what is in use and what waits at each limit; and the end of all waiting."""

from __future__ import annotations

import click

from bridge.cli import output, spans
from bridge.cli.parts import Parts, pass_parts
from bridge.limits.gates import Limits
from bridge.limits.line_reader import LineReader
from bridge.limits.lines import Lines
from bridge.limits.overview import LineStatus, Overview
from bridge.sidekiq import keys


@click.command("limits")
@click.option("--limit", "most", type=click.IntRange(1), default=50, show_default=True, help="Most to list.")
@click.option("--release", is_flag=True, help="Let all jobs that wait go now, without their limits.")
@output.yes_option
@output.json_option
@pass_parts
def limits(parts: Parts, most: int, release: bool, yes: bool, as_json: bool) -> None:
    """List each limit and key: places in use, jobs that wait, and the next one."""
    if release:
        _release(parts, yes)
        return
    found = Overview(parts.client, parts.settings.limits).lines()
    if as_json:
        output.print_json(found)
        return
    columns = ("limit", "key", "allowed", ">in use", ">on their way", ">waiting", "next", ">declared by")
    output.console().print(output.table(columns, map(_row, found[:most])))
    if len(found) > most:
        click.echo(f"and {output.count(len(found) - most, 'other')}; see --limit", err=True)


def _row(line: LineStatus) -> tuple[object, ...]:
    allowed = ", ".join(
        part for part in (line.concurrency and f"{line.concurrency:,} at once", line.rate) if part
    )
    following = [line.next_jid or ""]
    if line.next_in_seconds and line.waiting:
        following.append(f"in {spans.readable(line.next_in_seconds)}")
    by = output.count(line.declared_by, "process", "processes") if line.declared_by else "its jobs"
    waiting = f"{line.waiting:,}" if line.waiting else ""
    return (
        line.limit, line.key, allowed, line.in_use or "", line.reserved or "", waiting,
        " ".join(filter(None, following)), by,
    )  # fmt: skip


def _release(parts: Parts, yes: bool) -> None:
    names = LineReader(parts.client, Limits()).all_lines()
    waiting = sum(int(parts.client.zcard(keys.gate(name)[2])) for name in names)
    if not waiting:
        click.echo("no job waits at a limit", err=True)
        return
    jobs = output.count(waiting, "job")
    output.confirm(f"let {jobs} go now, without their limits? A worker that lives stops them again", yes)
    lines = Lines(parts.client, Limits(), lambda: "")
    for name in names:
        lines.release(name)
    click.echo(f"{jobs} are due in schedule: the next process of Sidekiq or worker runs them", err=True)
