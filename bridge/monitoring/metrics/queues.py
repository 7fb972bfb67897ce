"""The series about Redis: this worker's queues, the sets and the fleet.

Under names of our own, and under those of yabeda-sidekiq's cluster metrics, which its dashboards read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bridge import errors
from bridge.redis.outages import outages
from bridge.sidekiq import fleet, keys
from bridge.sidekiq.payload.job import SidekiqJob

_SETS = (keys.RETRY, keys.SCHEDULE, keys.DEAD)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What Redis said, in the order of ``names``."""

    names: tuple[str, ...]
    lengths: Sequence[int]
    tails: Sequence[bytes | None]
    paused: Collection[bytes]
    due: Sequence[float]
    """When the first entry of ``retry`` and of ``schedule`` is due."""
    sizes: Mapping[str, int]
    """Of the three sets."""
    busy: Sequence[int]
    """Running jobs of each process that there is."""


class QueueSeries(Collector):
    """Two pipelines for each scrape, on a client with a short timeout.

    An outage of Redis leaves no samples: an old one would look like a queue at rest.
    """

    def __init__(
        self, client: redis.Redis, queues: Callable[[], Iterable[str]], answers: Callable[[], bool]
    ) -> None:
        self._client = client
        self._queues = queues
        self._answers = answers
        self._busy_read: list[int] = []
        self._read_at = 0.0

    def collect(self) -> Iterator[Metric]:
        """Of each queue, of the sets, of the fleet; and the lag of the scheduler."""
        names = tuple(self._queues())
        if not names or not self._answers():
            return
        try:
            seen = self._read(names)
        except errors.StoreError:
            return  # an outage, or a key of a wrong type; the fetch loop reports both
        now = time.time()
        yield from _queues(seen, now)
        yield GaugeMetricFamily(
            "bridge_scheduler_lag_seconds",
            "How long the oldest due entry of retry and schedule has been due.",
            value=max(0.0, *(now - score for score in seen.due), 0.0),
        )
        yield from _fleet(seen)

    def _read(self, names: tuple[str, ...]) -> _Seen:
        with outages():
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                pipeline.llen(keys.queue(name))
            for name in names:
                pipeline.lindex(keys.queue(name), -1)
            for key in (keys.RETRY, keys.SCHEDULE):
                pipeline.zrange(key, 0, 0, withscores=True)
            for key in _SETS:
                pipeline.zcard(key)
            pipeline.smembers(keys.PAUSED)
            pipeline.smembers(keys.PROCESSES)
            results: list[Any] = pipeline.execute()
            *counted, paused, processes = results
            busy = self._busy(processes)
        rest = counted[2 * len(names) :]
        return _Seen(
            names=names,
            lengths=counted[: len(names)],
            tails=counted[len(names) : 2 * len(names)],
            paused=paused,
            due=[float(score) for found in rest[:2] for _, score in found],
            sizes=dict(zip(_SETS, rest[2:], strict=True)),
            busy=busy,
        )

    def _busy(self, processes: Collection[bytes]) -> list[int]:
        if time.monotonic() >= self._read_at:
            pipeline = self._client.pipeline(transaction=False)
            for identity in processes:
                pipeline.hget(identity, "busy")
            # A member without a row is a process that died; Sidekiq's own pages clean it up.
            self._busy_read = [int(busy) for busy in pipeline.execute() if busy is not None]
            rest = fleet.rest_seconds(len(processes), few=fleet.FEW_PROCESSES)  # each worker is scraped
            self._read_at = time.monotonic() + rest
        return self._busy_read


def _queues(seen: _Seen, now: float) -> Iterator[Metric]:
    ages = [_age(tail, now) for tail in seen.tails]
    for name, help_text, values in (
        ("bridge_queue_depth", "Jobs that wait in the queue.", seen.lengths),
        ("sidekiq_jobs_waiting_count", "Jobs that wait in the queue.", seen.lengths),
        ("bridge_queue_latency_seconds", "Age of the job that is taken next; 0 for an empty queue.", ages),
        ("sidekiq_queue_latency", "The same in yabeda-sidekiq's name.", ages),
        (
            "bridge_queue_paused",
            "Whether it is paused.",
            [name.encode() in seen.paused for name in seen.names],
        ),
    ):
        yield _by_queue(name, help_text, seen.names, values)


def _fleet(seen: _Seen) -> Iterator[Metric]:
    for name, help_text, value in (
        ("sidekiq_jobs_retry_count", "Entries of the retry set.", seen.sizes[keys.RETRY]),
        ("sidekiq_jobs_scheduled_count", "Entries of the schedule.", seen.sizes[keys.SCHEDULE]),
        ("sidekiq_jobs_dead_count", "Entries of the dead set.", seen.sizes[keys.DEAD]),
        ("sidekiq_active_processes", "Processes, Ruby's and the bridge's.", len(seen.busy)),
        ("sidekiq_active_workers_count", "Jobs that run in them.", sum(seen.busy)),
    ):
        yield GaugeMetricFamily(name, help_text, value=float(value))


def _by_queue(name: str, help_text: str, queues: Iterable[str], values: Iterable[float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=("queue",))
    for queue, value in zip(queues, values, strict=True):
        family.add_metric((queue,), float(value))
    return family


def _age(payload: bytes | None, now: float) -> float:
    if payload is None:
        return 0.0
    try:
        job = SidekiqJob.parse(payload)
    except errors.PayloadError:
        return 0.0  # no job: the next claim buries it
    since = job.enqueued_at or job.created_at
    return max(0.0, now - since) if since is not None else 0.0
