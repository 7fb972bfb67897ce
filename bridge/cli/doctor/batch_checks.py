"""Checks of batches: those that do not end, and jobs of batches that are gone."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.batches import missing, reader
from bridge.batches.effects import FIELD
from bridge.batches.reader import BatchStatus
from bridge.cli import output
from bridge.cli.doctor.finding import Check, Finding, warning
from bridge.cli.doctor.site import Site

#: Seconds without a move after which a batch is looked at.
IDLE_SECONDS = 600.0
#: Most batches, and most jobs of one, that are looked for.
MOST_BATCHES = 5
MOST_JOBS = 10_000
_SHOWN = 100


def endless(site: Site) -> Iterator[Finding]:
    """A batch that waits for jobs that are nowhere, or whose push broke off."""
    now = site.now_ms / 1000
    idle = [
        status
        for status in reader.newest(site.client, _SHOWN)
        if status.success_at is None and now - status.last_moved_at > IDLE_SECONDS
    ]
    for status in [one for one in idle if one.is_open]:
        yield warning(
            "batch-open",
            f"the push of batch {_named(status)} did not end, so no callback follows",
            f"if its process died: bridge batches {status.bid} --close",
        )
    parts = site.parts
    for status in [one for one in idle if not one.is_open and one.pending <= MOST_JOBS][:MOST_BATCHES]:
        gone = missing.jobs(parts.store, parts.entries, parts.processes, status.bid)
        if gone:
            jobs = output.count(len(gone), "job")
            yield warning(
                "batch-missing-jobs",
                f"batch {_named(status)} waits for {jobs} in no queue, set or worker",
                f"bridge batches {status.bid} --missing lists them, and --forget JID ends the wait",
            )


def unknown(site: Site) -> Iterator[Finding]:
    """Jobs whose batch Redis has dropped or forgotten: no callback follows them."""
    bids = {str(entry.job.fields[FIELD]) for entry in site.sample if entry.job.fields.get(FIELD)}
    gone = sorted(bid for bid in bids if reader.status(site.client, bid) is None)
    if gone:
        seen = f"jobs of batches that Redis does not know ({', '.join(gone[:3])}): no callback follows them"
        yield warning("batch-unknown", seen, "set maxmemory-policy noeviction; push the batch again")


def _named(status: BatchStatus) -> str:
    return f"{status.bid} ({status.description})" if status.description else status.bid


CHECKS: tuple[Check, ...] = (endless, unknown)
