"""The Web UI's actions on waiting jobs: retry now, kill, delete. The client that removes an entry owns it.

Follows ``api.rb`` (SortedEntry, JobRecord) of 6.4 to 8.1, with one difference: an entry leaves its place in
the same step in which it enters the next. A sidecar, where one is configured, runs the death handlers of jobs
that were killed or revoked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import redis

from bridge.redis import scripts
from bridge.redis.outages import is_outage, outages, raise_first_error
from bridge.sidekiq import keys
from bridge.sidekiq.api.entries import Entries, Entry, Place
from bridge.sidekiq.outcome.decision import Bury, DeadLimits, Discard
from bridge.sidekiq.outcome.notice import KILLED, REVOKED, Notice
from bridge.sidekiq.payload import timestamps as clock
from bridge.sidekiq.schedule import due_entry
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.due import DueEntry, promote_call
from bridge.sidekiq.store.effects import Effect, with_effects
from bridge.sidekiq.store.store import RedisStore


@dataclass(frozen=True)
class Actions:
    """Each verb takes entries as they were read, and returns how many of them were still there."""

    store: RedisStore
    timestamps: Callable[[], clock.Timestamps]
    dead_limits: Callable[[], DeadLimits] = DeadLimits

    def retry(self, entries: Iterable[Entry], now: float) -> int:
        """Push entries of the sets to their queues, with one failure fewer on their account."""
        calls = [self._retry_call(entry, now) for entry in entries if entry.job.fields]
        return self._count(calls)

    def kill(self, entries: Iterable[Entry], now: float) -> int:
        """Move entries to the dead set, byte for byte, and trim it."""
        calls = [self._kill_call(entry, now) for entry in entries if entry.place.key != keys.DEAD]
        return self._count(calls)

    def revoke(self, entries: Sequence[Entry]) -> int:
        """Remove entries that a person ended for good: unlike ``delete``, Ruby is told."""
        if not (self.store.tells_ruby or self.store.effects.sources or self.store.effects.by_field):
            return self.delete(entries)
        return self._count([self._revoke_call(entry) for entry in entries])

    def delete(self, entries: Sequence[Entry]) -> int:
        """Remove entries. Ruby is not told; a batch is, and those who wait for a result."""
        ends = {i: effects for i, entry in enumerate(entries) if (effects := self._effects_of_delete(entry))}
        gone = self._count([with_effects(_remove_call(entries[i]), effects) for i, effects in ends.items()])
        return gone + self._delete([entry for i, entry in enumerate(entries) if i not in ends])

    def delete_all(self, place: Place) -> int:
        """Remove all jobs of a place: in one step, but for those whose end a batch or a caller waits for."""
        gone = Entries(self.store.client).sweep(place, self._delete_told) if self._may_be_told(place) else 0
        return gone + (self.store.clear(place.queue) if place.queue else self.clear(place.key))

    def _may_be_told(self, place: Place) -> bool:
        """Whether a batch or a caller may wait for jobs of the place. Dead jobs have ended before."""
        if place.key == keys.DEAD:
            return False
        with outages():
            return bool(self.store.client.exists(keys.BATCHES, keys.RESULTS))

    def _delete_told(self, entries: Sequence[Entry]) -> int:
        return self.delete([entry for entry in entries if self._effects_of_delete(entry)])

    def _effects_of_delete(self, entry: Entry) -> Sequence[Effect]:
        """A dead job has ended before."""
        return () if entry.place.key == keys.DEAD else self.store.effects.of(entry.job, Discard())

    def _delete(self, entries: Sequence[Entry]) -> int:
        if not entries:
            return 0
        with outages():
            pipeline = self.store.client.pipeline(transaction=False)
            for entry in entries:
                if entry.place.queue:
                    pipeline.lrem(entry.place.key, 1, entry.member)  # type: ignore[arg-type]  # bytes are fine
                else:
                    pipeline.zrem(entry.place.key, entry.member)
            return sum(map(int, pipeline.execute()))

    def delete_waiting(self, jid: str) -> int:
        """Remove every job with this jid from queues, ``schedule`` and ``retry``. Returns how many."""
        return self._take_waiting(jid, self.delete)

    def revoke_waiting(self, jid: str) -> int:
        """The same for a job that a person ended: Ruby is told."""
        return self._take_waiting(jid, self.revoke)

    def delete_from(self, place: Place, jid: str) -> int:
        """Remove every job with this jid from one place. Returns how many."""
        return self._take_from(place, jid, self.delete)

    def _take_waiting(self, jid: str, take: Callable[[Sequence[Entry]], int]) -> int:
        places = Entries(self.store.client).places()
        return sum(self._take_from(place, jid, take) for place in places if place.key != keys.DEAD)

    def _take_from(self, place: Place, jid: str, take: Callable[[Sequence[Entry]], int]) -> int:
        def act(page: Sequence[Entry]) -> int:
            found = [entry for entry in page if entry.job.jid == jid]
            return take(found) if found else 0

        return Entries(self.store.client).sweep(place, act, (jid.encode(),))

    def clear(self, name: str) -> int:
        """Remove a whole set in one step, as the Web UI's "Delete All". Returns how many entries it had."""
        with outages():
            pipeline = self.store.client.pipeline(transaction=True)
            pipeline.zcard(name)
            pipeline.unlink(name)
            return int(pipeline.execute()[0])

    def _retry_call(self, entry: Entry, now: float) -> scripts.Call:
        queue = entry.job.queue or "default"
        fields = due_entry.promotion_fields(entry.job, queue, self.timestamps().stamp(now))
        payload = entry.job.with_fields({**fields, **_one_failure_fewer(entry)})
        return promote_call(entry.place.key, [DueEntry(entry.member, queue, payload)])

    def _kill_call(self, entry: Entry, now: float) -> scripts.Call:
        limits = self.dead_limits()
        script = lua.load("move_queued_to_dead" if entry.place.queue else "move_to_dead")
        fields = entry.job.entry_fields({}) if entry.job.fields else {}
        payload = entry.job.with_fields(fields) if fields else entry.member
        args = (entry.member, payload, now, now - limits.timeout_seconds, -limits.max_jobs)
        call = self._told(scripts.Call(script, (entry.place.key, keys.DEAD), args), entry, KILLED)
        return with_effects(call, self.store.effects.of(entry.job, Bury(payload, ran=False)))

    def _revoke_call(self, entry: Entry) -> scripts.Call:
        call = self._told(_remove_call(entry), entry, REVOKED)
        return with_effects(call, self.store.effects.of(entry.job, Discard()))

    def _told(self, call: scripts.Call, entry: Entry, notice: Notice) -> scripts.Call:
        """Bytes that are not a job have no death handlers to run for."""
        queue = entry.place.queue or entry.job.queue or "default"
        return self.store.told(call, notice, queue, entry.member) if entry.job.fields else call

    def _count(self, calls: Sequence[scripts.Call]) -> int:
        if not calls:
            return 0
        results = scripts.run(self.store.client, calls)
        failed = [result for result in results if isinstance(result, redis.RedisError)]
        if failed:
            raise_first_error(sorted(failed, key=is_outage, reverse=True))
        self.store.on_notice()
        return sum(map(int, results))


def _remove_call(entry: Entry) -> scripts.Call:
    return scripts.Call(lua.load("remove_waiting"), (entry.place.key,), (entry.member,))


def _one_failure_fewer(entry: Entry) -> dict[str, int]:
    """So that the next failure counts as the same attempt (``SortedEntry#retry``); 0 becomes -1."""
    count = entry.job.fields.get("retry_count")
    return {"retry_count": count - 1} if type(count) is int and entry.place.key != keys.SCHEDULE else {}
