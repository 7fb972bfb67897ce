"""The series about limits across the fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import redis
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bridge import errors
from bridge.limits.gates import Gate
from bridge.limits.key_path import ALL
from bridge.limits.line_reader import LineReader
from bridge.redis.outages import outages
from bridge.sidekiq import keys

if TYPE_CHECKING:
    from bridge.limits.limiter import Limiter

#: Lines whose jobs one scrape counts. Those of many keys belong to one limit.
MOST_LINES = 2000


class LimitSeries(Collector):
    """Absent while this worker knows no limit. An outage of Redis leaves no samples."""

    def __init__(self, client: redis.Redis, limiter: Callable[[], Limiter]) -> None:
        self._client = client
        self._limiter = limiter

    def collect(self) -> Iterator[Metric]:
        """Of each limit: allowed, in use, waiting; and how many jobs of this worker had to wait."""
        limiter = self._limiter()
        if not limiter.lines.active:
            return
        yield CounterMetricFamily(
            "bridge_jobs_parked", "Claimed jobs that had to wait at a limit.", value=limiter.admission.parked
        )
        try:
            yield self._waiting(limiter)
            yield from self._places(limiter)
        except errors.StoreError:
            return

    def _waiting(self, limiter: Limiter) -> Metric:
        family = GaugeMetricFamily("bridge_limit_waiting", "Jobs that wait at the limit.", labels=("limit",))
        reader = LineReader(self._client, limiter.limits)
        lines = reader.all_lines()[:MOST_LINES]
        with outages():
            pipeline = self._client.pipeline(transaction=False)
            for line in lines:
                pipeline.zcard(keys.gate(line)[2])
            sizes = pipeline.execute()
        totals = Counter(dict.fromkeys(limiter.limits.by_name, 0))
        for line, size in zip(lines, sizes, strict=True):
            totals[reader.limit_name(line) or line.rpartition(":")[0]] += size
        for name, total in totals.items():
            family.add_metric((name,), float(total))
        return family

    def _places(self, limiter: Limiter) -> Iterator[Metric]:
        allowed = GaugeMetricFamily(
            "bridge_limit_concurrency", "Jobs that may run at once, for each key.", labels=("limit",)
        )
        used = GaugeMetricFamily(
            "bridge_limit_in_use", "Places in use of a limit without keys.", labels=("limit",)
        )
        limited = [limit for limit in limiter.limits.declared if limit.concurrency is not None]
        with outages():
            pipeline = self._client.pipeline(transaction=False)
            for limit in limited:
                pipeline.zcard(keys.gate(Gate(limit, ALL).line)[0])
            sizes = pipeline.execute()
        for limit, size in zip(limited, sizes, strict=True):
            allowed.add_metric((limit.name,), float(limit.concurrency or 0))
            if limit.key is None:
                used.add_metric((limit.name,), float(size))
        yield from (allowed, used)
