"""Reads and writes result hashes; the end of a job is written by its settlement (see ``tracking``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import redis

from bridge.redis import scripts
from bridge.redis.outages import outages, raise_first_error
from bridge.results.record import QUEUED, RUNNING, Record
from bridge.sidekiq import keys
from bridge.sidekiq.payload.tracked import EVERY
from bridge.sidekiq.store import lua

DEFAULT_TTL_SECONDS = 86_400
#: Jobs in the index of the tracked jobs that changed last.
MOST_RECENT = 1000

Value = str | bytes | int | float
#: Fields that a new push removes.
_OF_A_PUSH = (
    *("at", "total", "message", "result", "lost", "error_class", "error_message", "state", "meta"),
    *("started_at", "finished_at", "retry_at", "language", "run"),
)


class Run(NamedTuple):
    """One run of a tracked job in a worker's hands."""

    jid: str
    identity: str
    token: int
    fields: Mapping[str, Value] = {}
    """Fields that are known at its start."""

    @property
    def name(self) -> str:
        """That of the delivery: ``<identity>/<token>``."""
        return f"{self.identity}/{self.token}"


class ResultStore:
    """The hashes on one Redis. Methods raise StoreError, and StoreUnavailable in an outage."""

    def __init__(self, client: redis.Redis, ttl_seconds: int = DEFAULT_TTL_SECONDS) -> None:
        self.client = client
        self.ttl_seconds = ttl_seconds
        self.mirror: Callable[[str, str, Mapping[str, Value], Run | None], None] = lambda *_: None
        """Told of each state that a tracked job tells of itself."""

    def read(self, jid: str) -> Record | None:
        """One tracked job; None where Redis has no hash of it."""
        with outages():
            found: Any = self.client.hgetall(keys.result(jid))
        return Record.of(jid, found)

    def recent(self, most: int = 50) -> list[Record]:
        """The tracked jobs that changed last, the latest first."""
        with outages():
            names: Any = self.client.zrange(keys.RESULTS, 0, most - 1, desc=True)
            jids = [name.decode("utf-8", "replace") for name in names]
            pipeline = self.client.pipeline(transaction=False)
            for jid in jids:
                pipeline.hgetall(keys.result(jid))
            found = pipeline.execute() if jids else []
        records = (Record.of(jid, fields) for jid, fields in zip(jids, found, strict=True))
        return [record for record in records if record is not None]

    def announce(self, classes: Sequence[str], seconds: int) -> None:
        """These classes are tracked, for this time."""
        with outages():
            pipeline = self.client.pipeline(transaction=True)
            pipeline.sadd(keys.TRACKED, *classes)
            pipeline.expire(keys.TRACKED, seconds)
            pipeline.execute()

    def is_announced(self, job_class: str) -> bool:
        """Whether a worker tracks this class."""
        with outages():
            found: Any = self.client.smismember(keys.TRACKED, [job_class, EVERY])
        return any(found)

    def announced(self) -> list[str]:
        """The classes that workers track."""
        with outages():
            found: Any = self.client.smembers(keys.TRACKED)
        return [name.decode("utf-8", "replace") for name in found]

    def is_member(self, name: str) -> bool:
        """Whether a worker has announced this."""
        with outages():
            return bool(self.client.sismember(keys.TRACKED, name))

    def forget(self, jid: str) -> bool:
        """Remove a hash. Returns whether there was one."""
        with outages():
            pipeline = self.client.pipeline(transaction=True)
            pipeline.delete(keys.result(jid))
            pipeline.zrem(keys.RESULTS, jid)
            return bool(pipeline.execute()[0])

    def queued(self, jobs: Sequence[tuple[str, str, float | None]]) -> None:
        """Tracked jobs are about to be pushed: jid, class, and epoch seconds of a scheduled job."""
        if jobs:
            self._run([self._mark(jid, QUEUED, _of_a_push(name, at)) for jid, name, at in jobs])
            for jid, _, _ in jobs:
                self.mirror(jid, QUEUED, {}, None)

    def started(self, runs: Sequence[Run]) -> None:
        """Runs have begun. Writes nothing about a run that is over."""
        found = self._run([self._mark(run.jid, RUNNING, run.fields, run) for run in runs])
        for run, is_running in zip(runs, found, strict=True):
            if is_running and run.fields.get("language") == "python":
                self.mirror(run.jid, RUNNING, {}, run)

    def progress(self, run: Run, fields: Mapping[str, Value]) -> bool:
        """How far a run has come. Returns whether the run is this worker's still."""
        is_running = bool(self._run([self._mark(run.jid, RUNNING, {**run.fields, **fields}, run)])[0])
        if is_running:
            self.mirror(run.jid, RUNNING, fields, run)
        return is_running

    def note(self, jid: str, status: str, fields: Mapping[str, Value]) -> None:
        """Write fields from outside of a run."""
        self._run([self._mark(jid, status, fields)])

    def _mark(
        self, jid: str, status: str, fields: Mapping[str, Value], run: Run | None = None
    ) -> scripts.Call:
        names: tuple[str, ...] = (keys.result(jid), keys.RESULTS)
        token: str | int = ""
        if run is not None:
            names, token = (*names, keys.inflight(run.identity)), run.token
        args = (*head(status, self.ttl_seconds, run.name if run else ""), token, *paired(fields))
        return scripts.Call(lua.load("result_mark"), names, args)

    def _run(self, calls: Sequence[scripts.Call]) -> list[Any]:
        results = scripts.run(self.client, calls)
        raise_first_error(results)
        return results


def _of_a_push(job_class: str, at: float | None) -> dict[str, Value]:
    fields: dict[str, Value] = dict.fromkeys(_OF_A_PUSH, "")
    return {**fields, "class": job_class, "queued_at": at or time.time()}


def head(status: str, ttl_seconds: int, run: str) -> tuple[Value, ...]:
    """The first arguments of each script that writes a result hash."""
    return time.time(), ttl_seconds, MOST_RECENT, status, run


def paired(fields: Mapping[str, Value]) -> tuple[Value, ...]:
    """Names and values in turn."""
    return tuple(part for pair in fields.items() for part in pair)
