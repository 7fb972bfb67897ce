"""``bridge verify``: sends a probe of each outcome through everything, and sees where it comes out."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence

import click
from rich.text import Text

from bridge import errors
from bridge.cli import completion, naming, output, sidecars, spans
from bridge.cli.group import FAILED
from bridge.cli.locate import held
from bridge.cli.parts import Parts, pass_parts
from bridge.cli.probing import Expectation, Probe, Watch
from bridge.sidekiq.api.entries import Place
from bridge.sidekiq.payload import new_job
from bridge.sidekiq.payload.job import new_jid

KINDS = {"native": "SidekiqBridge::NativeProbe", "ruby": "SidekiqBridge::Probe"}
#: Used where Sidekiq processes read every queue of the workers: they would not know the probe's class.
OWN_QUEUE = "bridge-verify"
LOOK_SECONDS = 0.1
CONTROL_SECONDS = 3.0
#: Longer than a probe takes: one that is in a worker's hands when the time is over is waited for.
LAST_SECONDS = 6.0


@click.command("verify")
@click.option("--only", type=click.Choice(list(KINDS)), help="Only Python's half, or only Ruby's.")
@click.option(
    "--queue",
    shell_complete=completion.QUEUES,
    help="The queue to send them through; by default one that only the bridge reads.",
)
@click.option("--no-failures", is_flag=True, help="Send no probe that fails: error trackers would report it.")
@spans.seconds_option("--timeout", "seconds", 1, 60.0, "Seconds until a probe counts as lost.")
@output.json_option
@pass_parts
@click.pass_context
def verify(
    ctx: click.Context,
    parts: Parts,
    only: str | None,
    queue: str | None,
    no_failures: bool,
    seconds: float,
    as_json: bool,
) -> None:
    """Send probe jobs and see each end where it should: done, retry, dead, scheduled.

    They do nothing. They count as processed and failed, and the app's error and death handlers see those that
    fail (SidekiqBridge::ProbeFailed). Afterwards nothing of them is left. Exit code 1 when one went astray.
    """
    kinds = [only] if only else _kinds(parts)
    wanted = [one for one in Expectation if not (no_failures and one.fails)]
    with _queue(parts, queue) as name:
        probes = [_probe(kind, one, name) for kind in kinds for one in wanted]
        _run(parts, probes, seconds)
    _print(probes, as_json)
    if not all(probe.well for probe in probes):
        ctx.exit(FAILED)


def _kinds(parts: Parts) -> list[str]:
    """Ruby's half too, unless no sidecar was ever asked for."""
    asked_for = parts.settings.says("sidecar_url")
    rows = sidecars.ask(parts)
    answers = any(row.status == "ready" for row in rows)
    if asked_for and not answers:
        for row in rows:
            click.echo(f"Ruby's probes will wait: {row.problem or f'{row.url} is {row.status}'}", err=True)
    if not asked_for and not answers:
        click.echo(
            "no sidecar answers and BRIDGE_SIDECAR_URL is unset: only Python's half is tried", err=True
        )
        return ["native"]
    return list(KINDS)


def _probe(kind: str, expectation: Expectation, queue: str) -> Probe:
    return Probe(kind, expectation, new_jid(os.urandom(12)), queue)


def _run(parts: Parts, probes: Sequence[Probe], seconds: float) -> None:
    watch = Watch(parts)
    try:
        for probe in probes:
            _push(parts, probe)
        deadline = time.monotonic() + seconds
        while not all(probe.ended for probe in probes) and time.monotonic() < deadline:
            looked_at = time.monotonic()
            watch.look(probes)
            # A look through large sets takes long: Redis has as much time for others.
            time.sleep(max(LOOK_SECONDS, time.monotonic() - looked_at))
        watch.give_up(probes, seconds)
    finally:
        _clean_up(parts, probes)


def _push(parts: Parts, probe: Probe) -> None:
    now, one = time.time(), probe.expectation
    at = now + one.delay_seconds if one.delay_seconds else None
    job = new_job.payload(
        KINDS[probe.kind], one.args, probe.queue, probe.jid, now, parts.dialect.timestamps,
        {"retry": one.retry}, scheduled=at is not None,
    )  # fmt: skip
    parts.store.put(probe.queue, job, at)


def _clean_up(parts: Parts, probes: Sequence[Probe]) -> None:
    deadline = time.monotonic() + LAST_SECONDS
    for probe in probes:
        parts.actions.delete_waiting(probe.jid)
        while held(parts, probe.jid) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        parts.actions.delete_waiting(probe.jid)  # it may have failed at that moment
        parts.actions.delete_from(Place("dead"), probe.jid)


@contextlib.contextmanager
def _queue(parts: Parts, asked_for: str | None) -> Iterator[str]:
    """The queue to use; a queue that was made for the probe disappears with its last job."""
    rows = [row for row in parts.processes.all() if not row.quiet]
    workers = [row for row in rows if row.is_bridge]
    if not workers:
        raise errors.BridgeError("no worker of the bridge is there: start `celery -A bridge worker`")
    shared = {name for row in rows if not row.is_bridge for name in row.queues}
    if asked_for:
        _check_queue(parts, asked_for, {name for row in workers for name in row.queues})
        yield asked_for
        return
    own = [name for row in workers for name in row.queues if name not in shared | parts.processes.paused()]
    if own:
        yield own[0]
        return
    with _consumed(OWN_QUEUE):
        try:
            yield OWN_QUEUE
        finally:
            parts.store.clear(OWN_QUEUE)


def _check_queue(parts: Parts, name: str, served: set[str]) -> None:
    naming.check([name])
    if name not in served:
        raise click.UsageError(f"--queue {name}: no worker serves it; they serve {', '.join(sorted(served))}")
    if name in parts.processes.paused():
        raise click.UsageError(f"--queue {name} is paused: bridge resume {name}")


@contextlib.contextmanager
def _consumed(queue: str) -> Iterator[None]:
    """Let every worker of the bridge read a queue for a while."""
    from bridge.celery import app  # half a second of imports, which the usual case does not need

    if not app.control.add_consumer(queue, reply=True, timeout=CONTROL_SECONDS):
        raise errors.BridgeError(
            "Sidekiq processes read every queue of the workers, and these do not answer remote control: "
            "name a queue with --queue that only the bridge reads"
        )
    try:
        yield
    finally:
        app.control.cancel_consumer(queue, reply=True, timeout=CONTROL_SECONDS)


def _print(probes: Sequence[Probe], as_json: bool) -> None:
    if as_json:
        output.print_json([probe.summary() for probe in probes])
        return
    rows = [(p.kind, p.expectation.title, _verdict(p), f"{p.seconds:.1f} s", p.says) for p in probes]
    output.console().print(output.table(("probe", "shall be", "", ">after", "seen"), rows))


def _verdict(probe: Probe) -> Text:
    return Text("ok", style="green") if probe.well else Text("ASTRAY", style="bold red")
