"""Finds a job wherever it may be."""

from __future__ import annotations

from dataclasses import dataclass

from bridge import errors
from bridge.cli.parts import Parts
from bridge.sidekiq import keys
from bridge.sidekiq.api.entries import Entry, Place
from bridge.sidekiq.api.filters import Filters


@dataclass(frozen=True, slots=True)
class Found:
    """One sight of a job."""

    where: str
    entry: Entry
    holder: str | None = None
    """Identity of the worker of the bridge that has it in hand."""


def find(parts: Parts, jid: str) -> list[Found]:
    """Every place where this job is. It may move while it is looked for: into a worker's hands, say."""
    wanted = Filters(frozenset([jid]))
    waiting = [
        Found(str(place), entry)
        for place in parts.entries.places()
        for entry in parts.entries.in_order(place, wanted.needles)
        if entry.job.jid == jid
    ]
    return [*waiting, *held(parts, jid)]


def held(parts: Parts, jid: str) -> list[Found]:
    """The worker of the bridge that holds the job."""
    found: list[Found] = []
    for lease in parts.processes.leases():
        try:
            claims = parts.store.inflight(lease.identity)
        except errors.StoreUnavailable:
            raise
        except errors.StoreError:
            continue  # entries of a newer release; `doctor` says so
        for claimed in claims:
            entry = Entry.of(Place(keys.queue(claimed.queue)), claimed.payload)
            if entry.job.jid == jid:
                found.append(Found(f"in the hands of {lease.identity}", entry, lease.identity))
    return found
