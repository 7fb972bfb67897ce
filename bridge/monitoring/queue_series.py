"""What a scrape shows of Redis: this worker's queues, and how late due jobs are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import redis
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bridge import errors
from bridge.sidekiq import keys
from bridge.sidekiq.job import SidekiqJob
from bridge.sidekiq.store import outages


class QueueSeries(Collector):
    """One pipeline for each scrape, on a client with a short timeout.

    While Redis is away there are no samples: none is true, and an old one would look like a queue at rest.
    """

    def __init__(
        self, client: redis.Redis, queues: Callable[[], Iterable[str]], answers: Callable[[], bool]
    ) -> None:
        self._client = client
        self._queues = queues
        self._answers = answers

    def collect(self) -> Iterator[Metric]:
        """Depth, latency and pause of each queue, and the lag of the scheduler."""
        names = tuple(self._queues())
        if not names or not self._answers():
            return
        try:
            lengths, tails, paused, due = self._read(names)
        except errors.StoreError:
            return  # an outage, or a key of a wrong type; the fetch loop reports both
        now = time.time()
        yield _by_queue("bridge_queue_depth", "Jobs that wait in the queue.", names, lengths)
        yield _by_queue(
            "bridge_queue_latency_seconds",
            "Age of the job that is taken next; 0 for an empty queue.",
            names,
            [_age(tail, now) for tail in tails],
        )
        yield _by_queue(
            "bridge_queue_paused",
            "Whether the queue is paused.",
            names,
            [name.encode() in paused for name in names],
        )
        yield GaugeMetricFamily(
            "bridge_scheduler_lag_seconds",
            "How long the oldest due entry of retry and schedule has been due.",
            value=max(0.0, *(now - score for score in due), 0.0),
        )

    def _read(self, names: tuple[str, ...]) -> tuple[list[int], list[bytes | None], set[bytes], list[float]]:
        with outages():
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                pipeline.llen(keys.queue(name))
            for name in names:
                pipeline.lindex(keys.queue(name), -1)
            pipeline.smembers(keys.PAUSED)
            for key in (keys.RETRY, keys.SCHEDULE):
                pipeline.zrange(key, 0, 0, withscores=True)
            results: list[Any] = pipeline.execute()
        count = len(names)
        due = [float(score) for found in results[-2:] for _, score in found]
        return results[:count], results[count : 2 * count], set(results[2 * count]), due


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
