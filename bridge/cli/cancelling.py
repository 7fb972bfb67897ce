"""``bridge jobs cancel``: remove a job that waits, end one that runs."""

from __future__ import annotations

import time

import click

from bridge.cli import completion, output, spans
from bridge.cli.group import FAILED
from bridge.cli.locate import find, held
from bridge.cli.parts import Parts, pass_parts
from bridge.sidekiq.api.entries import SETS, Place

LOOK_SECONDS = 0.2


@click.command("cancel")
@click.argument("jids", nargs=-1, required=True, metavar="JID...", shell_complete=completion.JIDS)
@spans.seconds_option("--wait", "wait_seconds", 0, 10.0, "Seconds a running job may take to end.")
@output.yes_option
@pass_parts
@click.pass_context
def cancel(ctx: click.Context, parts: Parts, jids: tuple[str, ...], wait_seconds: float, yes: bool) -> None:
    """Remove waiting jobs, and end running ones through their worker. They count as discarded.

    A job that runs in a Sidekiq process can be ended only if it is iterable (Sidekiq 7.3 and later), at its
    next checkpoint. Exit code 1 when a job was not found or still runs.
    """
    output.confirm(f"Cancel {output.count(len(jids), 'job')}?", yes)
    results = [_cancel(parts, jid, wait_seconds) for jid in jids]
    for jid, (text, _) in zip(jids, results, strict=True):
        click.echo(f"{jid}: {text}")
    if not all(well for _, well in results):
        ctx.exit(FAILED)


def _cancel(parts: Parts, jid: str, wait_seconds: float) -> tuple[str, bool]:
    removed = parts.actions.revoke_waiting(jid)
    if removed:
        return "removed; it had not begun", True
    if held(parts, jid):
        _tell_workers(jid)
        return _await_end(parts, jid, wait_seconds)
    return _cancel_elsewhere(parts, jid)


def _tell_workers(jid: str) -> None:
    """The control command ``revoke``; the worker that has the job ends it."""
    from bridge.celery import app  # half a second of imports, which no other command needs

    app.control.revoke(jid, terminate=True)


def _await_end(parts: Parts, jid: str, wait_seconds: float) -> tuple[str, bool]:
    deadline = time.monotonic() + wait_seconds
    while held(parts, jid):
        if time.monotonic() > deadline:
            return f"its worker was told, but it still runs after {wait_seconds:g} s", False
        time.sleep(LOOK_SECONDS)
    parts.actions.revoke_waiting(jid)  # it may have failed at that moment, and wait for its retry
    return "ended", True


def _cancel_elsewhere(parts: Parts, jid: str) -> tuple[str, bool]:
    rows = parts.processes.running(row.identity for row in parts.processes.all())
    running = next((row for row in rows if row.jid == jid), None)
    if running is None:
        return _dead_or_gone(parts, jid)
    if parts.commands.cancel_iteration(jid, time.time()):
        return f"asked to stop at its next checkpoint in {running.identity}", True
    return f"runs in {running.identity}, a Sidekiq process, and is not iterable: it cannot be ended", False


def _dead_or_gone(parts: Parts, jid: str) -> tuple[str, bool]:
    if any(found.entry.place == Place(SETS[-1]) for found in find(parts, jid)):
        return "dead already: `bridge jobs delete dead` removes it", False
    return "not found: it is done, was deleted, or never was", False
