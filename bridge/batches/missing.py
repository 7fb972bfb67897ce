"""Finds jobs that a batch waits for and that are nowhere: a person deleted them, or Redis lost them."""

from __future__ import annotations

from collections.abc import Sequence

from bridge import errors
from bridge.batches import reader
from bridge.sidekiq.api.entries import Entries, Entry
from bridge.sidekiq.api.processes import Processes
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.store import RedisStore


def jobs(store: RedisStore, entries: Entries, processes: Processes, bid: str) -> set[str]:
    """The jids. A job that moves from place to place meanwhile is looked for a second time."""
    left = _waited_for(store, bid)
    for _ in range(2):
        left = _absent(store, entries, processes, left) if left else left
    return left & _waited_for(store, bid)


def _waited_for(store: RedisStore, bid: str) -> set[str]:
    return {name for name, _ in reader.members(store.client, bid) if not name.startswith(reader.CHILD)}


def _absent(store: RedisStore, entries: Entries, processes: Processes, jids: set[str]) -> set[str]:
    found = _held(store, processes)

    def note(page: Sequence[Entry]) -> int:
        found.update(entry.job.jid for entry in page if entry.job.jid)
        return 0

    for place in entries.places():
        entries.sweep(place, note)
    # Once more at the end: a job may have left its queue for a worker's hands after the first look.
    return jids - found - _held(store, processes)


def _held(store: RedisStore, processes: Processes) -> set[str]:
    """Jobs in the hands of workers of the bridge, and those that Sidekiq's own processes run."""
    rows = processes.all()
    found = {str(job.jid) for job in processes.running([row.identity for row in rows])}
    for lease in processes.leases():
        for claimed in store.inflight(lease.identity) if lease.held else ():
            try:
                found.add(str(SidekiqJob.parse(claimed.payload).jid))
            except errors.PayloadError:
                continue  # bytes that are not a job belong to no batch
    return found
