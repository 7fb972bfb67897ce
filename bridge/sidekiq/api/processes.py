"""All processes on this Redis: the rows of the Busy page, leases, queues, counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bridge import errors
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.api.values import float_of, int_of, list_of, object_of
from bridge.sidekiq.payload import timestamps
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.leases import HELD, holder_of

SCAN_COUNT = 1000


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process of the Busy page. Sidekiq writes the row; nothing about its types is certain."""

    identity: str
    hostname: str
    pid: int
    tag: str
    labels: tuple[str, ...]
    queues: tuple[str, ...]
    concurrency: int
    busy: int
    quiet: bool
    beat_at: float
    """Epoch seconds of the last heartbeat; 0 where there is none."""
    started_at: float
    rss_bytes: int
    rtt_us: int
    version: str
    capsules: int
    is_bridge: bool
    """Whether it is a worker of the bridge: it has a lease."""
    python: tuple[str, ...] = ()
    """Classes with a native task; of workers of the bridge."""
    shadow_safe: tuple[str, ...] = ()
    """Of those, the ones whose task may run as a shadow."""


@dataclass(frozen=True, slots=True)
class RunningRow:
    """One running job."""

    identity: str
    jid: str
    job_class: str
    queue: str
    run_at: int
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue."""

    name: str
    size: int
    latency_seconds: float
    """How long the next job has waited."""
    paused: bool


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """The jobs that one worker of the bridge holds."""

    identity: str
    till_ms: int | None
    """End of the lease in ms of Redis TIME; 0 or less: ended or being reaped; None: jobs without a lease."""
    held: int
    """Jobs in its hands."""

    def is_over(self, now_ms: int) -> bool:
        """Whether its jobs may be taken by a reaper."""
        return self.till_ms is None or self.till_ms < now_ms


@dataclass(frozen=True, slots=True)
class Totals:
    """The numbers on top of every page of the Web UI."""

    processed: int
    failed: int
    processed_today: int
    failed_today: int
    retry: int
    schedule: int
    dead: int


@dataclass(frozen=True)
class Processes:
    """Reads, and nothing else. Every method raises StoreUnavailable when Redis cannot answer."""

    client: Any
    """A redis.Redis that answers in bytes; its own types say "bytes or str" everywhere."""

    def now_ms(self) -> int:
        """Redis' clock."""
        with outages():
            seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def all(self) -> list[ProcessRow]:
        """Every process that is registered and has said something within the last minute."""
        with outages():
            names = sorted(self.client.smembers(keys.PROCESSES))
            pipeline = self.client.pipeline(transaction=False)
            for name in names:
                pipeline.hgetall(name)
                pipeline.zscore(keys.LEASE, name)
            found = pipeline.execute(raise_on_error=False)
        rows = zip(names, found[::2], found[1::2], strict=True)
        return [_process(name, row, lease) for name, row, lease in rows if isinstance(row, dict) and row]

    def running(self, identities: Iterable[str]) -> list[RunningRow]:
        """The running jobs of these processes, as the Busy page shows them."""
        names = list(identities)
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            for name in names:
                pipeline.hvals(keys.work(name))
                pipeline.hvals(keys.workers(name))
            found = pipeline.execute(raise_on_error=False)
        # A worker of the bridge writes both keys, a Sidekiq process one of them.
        rows = {_running(names[i // 2], row) for i, values in enumerate(found) for row in list_of(values)}
        return sorted(rows, key=lambda row: (row.run_at, row.jid))

    def queues(self) -> list[QueueRow]:
        """Every queue that Sidekiq's pages list."""
        now = self.now_ms() / 1000
        with outages():
            names = sorted(name.decode(errors="replace") for name in self.client.smembers(keys.QUEUES))
            paused = {name.decode(errors="replace") for name in self.client.smembers(keys.PAUSED)}
            pipeline = self.client.pipeline(transaction=False)
            for name in names:
                pipeline.llen(keys.queue(name))
                pipeline.lindex(keys.queue(name), -1)
            found = pipeline.execute(raise_on_error=False)
        sizes = zip(names, found[::2], found[1::2], strict=True)
        return [
            QueueRow(name, size if isinstance(size, int) else 0, _latency(tail, now), name in paused)
            for name, size, tail in sizes
        ]

    def paused(self) -> frozenset[str]:
        """Names of the paused queues."""
        with outages():
            return frozenset(name.decode(errors="replace") for name in self.client.smembers(keys.PAUSED))

    def leases(self) -> list[LeaseRow]:
        """Every worker of the bridge that has a lease or holds jobs."""
        with outages():
            till = {
                name.decode(errors="replace"): int_of(score)
                for name, score in self.client.zrange(keys.LEASE, 0, -1, withscores=True)
            }
            found = filter(None, map(holder_of, self.client.scan_iter(HELD, count=SCAN_COUNT)))
            identities = sorted(till.keys() | {identity for identity, _ in found})
            pipeline = self.client.pipeline(transaction=False)
            for identity in identities:
                pipeline.hlen(keys.inflight(identity))
                pipeline.smembers(keys.arrived(identity))
            found = pipeline.execute()
            arrived = [self._arrived(*pair) for pair in zip(identities, found[1::2], strict=True)]
        rows = zip(identities, found[::2], arrived, strict=True)
        return [LeaseRow(name, till.get(name), held + new) for name, held, new in rows]

    def _arrived(self, identity: str, watches: Iterable[bytes]) -> int:
        """How many jobs the lists of a worker's watches hold. A list that is closed is a string."""
        pipeline = self.client.pipeline(transaction=False)
        for watch in watches:
            pipeline.llen(keys.arrived_list(identity, watch.decode(errors="replace")))
        return sum(size for size in pipeline.execute(raise_on_error=False) if isinstance(size, int))

    def totals(self) -> Totals:
        """Counters and sizes of the sets; today is a day in UTC, as in Sidekiq."""
        with outages():
            today = f"{datetime.fromtimestamp(self.now_ms() / 1000, UTC):%Y-%m-%d}"
            names = (keys.PROCESSED, keys.FAILED, keys.processed_on(today), keys.failed_on(today))
            pipeline = self.client.pipeline(transaction=False)
            pipeline.mget(names)
            for key in (keys.RETRY, keys.SCHEDULE, keys.DEAD):
                pipeline.zcard(key)
            counters, *sizes = pipeline.execute()
        return Totals(*(int(value or 0) for value in counters), *map(int, sizes))


def _process(identity: bytes, row: Mapping[bytes, bytes], lease: float | None) -> ProcessRow:
    info = object_of(row.get(b"info"))
    queues, labels, capsules = info.get("queues"), info.get("labels"), info.get("capsules")
    concurrency = row.get(b"concurrency") or str(info.get("concurrency") or 0).encode()
    return ProcessRow(
        identity=identity.decode(errors="replace"),
        hostname=str(info.get("hostname", "")),
        pid=int_of(info.get("pid")),
        tag=str(info.get("tag") or ""),
        labels=_texts(labels),
        queues=_texts(queues) if isinstance(queues, list) else _capsule_queues(capsules),
        concurrency=int_of(concurrency),
        busy=int_of(row.get(b"busy")),
        quiet=row.get(b"quiet") == b"true",
        beat_at=float_of(row.get(b"beat")),
        started_at=float_of(info.get("started_at")),
        rss_bytes=int_of(row.get(b"rss")) * 1024,
        rtt_us=int_of(row.get(b"rtt_us")),
        version=str(info.get("version") or ""),
        capsules=len(capsules) if isinstance(capsules, dict) else 1,
        is_bridge=lease is not None,
        python=_texts(info.get("bridge_python")),
        shadow_safe=_texts(info.get("bridge_shadow_safe")),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _capsule_queues(capsules: object) -> tuple[str, ...]:
    if not isinstance(capsules, dict):
        return ()
    found = (capsule.get("weights") for capsule in capsules.values() if isinstance(capsule, dict))
    return tuple(
        dict.fromkeys(str(name) for weights in found if isinstance(weights, dict) for name in weights)
    )


def _running(identity: str, row: bytes) -> RunningRow:
    work = object_of(row)
    try:
        job = SidekiqJob.parse(str(work.get("payload", "")).encode())
    except errors.PayloadError:
        job = SidekiqJob.unreadable(b"")
    name = job.shown_class
    return RunningRow(identity, job.jid or "", name, str(work.get("queue", "")), int_of(work.get("run_at")))


def _latency(tail: object, now: float) -> float:
    job = object_of(tail)
    since = timestamps.seconds(job.get("enqueued_at")) or timestamps.seconds(job.get("created_at"))
    return max(0.0, now - since) if since else 0.0
