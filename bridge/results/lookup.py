"""Finds a job that has no result hash: it may wait, run, be unknown, or not be tracked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge import errors
from bridge.redis.outages import outages
from bridge.results.record import Record
from bridge.results.store import ResultStore
from bridge.sidekiq import keys
from bridge.sidekiq.api.entries import Entries
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.tracked import FIELD, Tracked
from bridge.sidekiq.store.store import RedisStore

UNTRACKED = (
    "jid={jid}: {name} is not tracked, so its end is written nowhere. Write @app.task(track=True), "
    "sidekiq_options bridge_track: true, or BRIDGE_TRACK={name}"
)
UNKNOWN = (
    "jid={jid}: Redis has no result of it, and no waiting or running job. Was it tracked, is the jid right, "
    "or did the result expire (BRIDGE_RESULT_TTL_SECONDS)?"
)
EVICTING = " This Redis drops keys when it is full ({policy}): set maxmemory-policy noeviction."
_SAFE = "noeviction"


class Lookup:
    """Reads queues, sets and the hands of the workers. For the rare job without a hash."""

    def __init__(self, store: RedisStore, results: ResultStore, tracked: Tracked) -> None:
        self._store = store
        self._results = results
        self._tracked = tracked

    def expect(self, jid: str) -> bool:
        """Whether the job is there and tracked; False where it was not found.

        Raises:
            NotTracked: it is there, and its end will be written nowhere.
        """
        for job in self._sights(jid):
            if job not in self._tracked and not self._is_announced(job):
                raise errors.NotTracked(UNTRACKED.format(jid=jid, name=job.native_class or "its class"))
            return True
        return False

    def record(self, jid: str) -> Record | None:
        """The hash; None for a tracked job that has none yet. Raises NotTracked and ResultUnknown."""
        record = self._results.read(jid)
        # Twice: a job may move, or end, while it is looked for.
        for _ in range(2):
            if record is not None or self.expect(jid):
                return record
            record = self._results.read(jid)
        if record is None:
            raise self._unknown(jid)
        return record

    def _is_announced(self, job: SidekiqJob) -> bool:
        """Whether a worker tracks the class: its task may be unknown to this process."""
        return job.fields.get(FIELD) is None and self._results.is_announced(job.native_class or "")

    def _unknown(self, jid: str) -> errors.ResultUnknown:
        return errors.ResultUnknown(UNKNOWN.format(jid=jid) + self._eviction())

    def _eviction(self) -> str:
        try:
            with outages():
                found: Any = self._store.client.info("memory")
        except errors.StoreError:
            return ""
        policy = found.get("maxmemory_policy", _SAFE)
        return "" if policy == _SAFE else EVICTING.format(policy=policy)

    def _sights(self, jid: str) -> Iterator[SidekiqJob]:
        entries, needle = Entries(self._store.client), (jid.encode("utf-8", "replace"),)
        for place in entries.places():
            if place.key != keys.DEAD:
                yield from (e.job for e in entries.in_order(place, needle) if e.job.jid == jid)
        yield from self._held(jid)

    def _held(self, jid: str) -> Iterator[SidekiqJob]:
        with outages():
            holders: Any = self._store.client.zrange(keys.LEASE, 0, -1)
        for holder in holders:
            for claimed in self._store.inflight(holder.decode("utf-8", "replace")):
                job = SidekiqJob.parse(claimed.payload)
                if job.jid == jid:
                    yield job
