"""The series about the worker itself: slots, breaker, lease, heartbeat, recovery, build."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import celery
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

import bridge
from bridge.monitoring.health.snapshot import Examiner
from bridge.sidecar.breaker import State
from bridge.sidekiq.process.rows import rss_kb

if TYPE_CHECKING:
    from bridge.runtime import Runtime


class WorkerSeries(Collector):
    """Reads the worker's parts at each scrape."""

    def __init__(
        self, runtime: Runtime, examiner: Examiner, pool_pids: Callable[[], Iterable[int]] = tuple
    ) -> None:
        self._runtime = runtime
        self._examiner = examiner
        self._pool_pids = pool_pids

    def collect(self) -> Iterator[Metric]:
        """All series of the worker."""
        yield _build()
        yield from self._slots()
        yield from self._sidecar()
        yield from self._redis()
        yield from self._orphaned_jobs()
        yield from self._notices()
        yield from self._memory()

    def _slots(self) -> Iterator[Metric]:
        fetcher = self._runtime.fetcher
        yield GaugeMetricFamily("bridge_slots", "Jobs that can run at once.", value=fetcher.in_flight.size)
        yield GaugeMetricFamily("bridge_slots_busy", "Jobs in hand.", value=len(fetcher.in_flight.held))
        cancellation = self._runtime.cancellation
        yield GaugeMetricFamily(
            "bridge_slots_lost",
            "Busy with a native job that was told to end and does not.",
            value=cancellation.lost,
        )
        yield CounterMetricFamily(
            "bridge_jobs_overdue",
            "Jobs that ran longer than their time limit.",
            value=cancellation.overdue_total,
        )
        yield GaugeMetricFamily(
            "bridge_quiet", "Whether no more jobs are taken.", value=float(fetcher.in_flight.is_quiet)
        )
        yield GaugeMetricFamily(
            "bridge_settlements_waiting",
            "Ended jobs that Redis does not know of yet.",
            value=len(fetcher.journal),
        )
        yield CounterMetricFamily(
            "bridge_fenced", "Settlements refused because the lease was gone.", value=fetcher.journal.fenced
        )

    def _sidecar(self) -> Iterator[Metric]:
        breaker = self._runtime.breaker
        family = GaugeMetricFamily(
            "bridge_circuit_state", "1 for the state of the sidecar's circuit breaker.", labels=("state",)
        )
        for state in State:
            family.add_metric((state.value,), float(breaker.state is state))
        yield family
        yield GaugeMetricFamily(
            "bridge_sidecar_up", "Whether a sidecar takes jobs.", value=float(not breaker.is_open)
        )
        yield GaugeMetricFamily(
            "bridge_sidecar_rejected",
            "Whether the sidecar refuses this worker (secret, protocol).",
            value=float(breaker.rejected is not None),
        )

    def _redis(self) -> Iterator[Metric]:
        snapshot, heartbeat = self._examiner.examine(), self._runtime.background.heartbeat
        yield GaugeMetricFamily(
            "bridge_redis_up", "Whether Redis answers.", value=float(snapshot.redis_answers)
        )
        if heartbeat is None:
            return
        yield GaugeMetricFamily(
            "bridge_redis_round_trip_seconds", "Duration of the last beat.", value=heartbeat.rtt_us / 1e6
        )
        yield GaugeMetricFamily(
            "bridge_heartbeat_timestamp_seconds",
            "Time of the last beat that Redis took.",
            value=heartbeat.beat_at,
        )
        yield GaugeMetricFamily(
            "bridge_heartbeat_age_seconds",
            "Since the last beat that Redis took; since the start where there was none.",
            value=heartbeat.age_seconds,
        )

    def _orphaned_jobs(self) -> Iterator[Metric]:
        reaper, scheduler = self._runtime.background.reaper, self._runtime.background.scheduler
        if reaper is not None:
            yield CounterMetricFamily(
                "bridge_jobs_recovered", "Jobs taken from dead workers.", value=reaper.recovered
            )
            yield CounterMetricFamily(
                "bridge_jobs_poisoned",
                "Jobs that were buried, for the third death around them.",
                value=reaper.poisoned + self._runtime.fetcher.journal.buried,
            )
        if scheduler is not None:
            yield CounterMetricFamily(
                "bridge_jobs_promoted", "Due jobs moved to their queues.", value=scheduler.promoted
            )

    def _notices(self) -> Iterator[Metric]:
        teller = self._runtime.teller
        yield GaugeMetricFamily(
            "bridge_notices_waiting",
            "Ends outside of Ruby that no sidecar has acknowledged, at the last beat.",
            value=teller.waiting,
        )
        yield CounterMetricFamily("bridge_notices_told", "Ends that were told to Ruby.", value=teller.told)
        yield CounterMetricFamily(
            "bridge_notices_dropped",
            "Ends that Ruby was not told, for too many waited.",
            value=teller.dropped,
        )

    def _memory(self) -> Iterator[Metric]:
        pids = [pid for pid in self._pool_pids() if pid != os.getpid()]
        yield GaugeMetricFamily(
            "bridge_pool_processes",
            "Processes of the pool (prefork); 0 for pools of threads.",
            value=len(pids),
        )
        yield GaugeMetricFamily(
            "bridge_pool_resident_memory_bytes",
            "Resident memory of the pool's processes together.",
            value=sum(rss_kb(Path(f"/proc/{pid}/status")) for pid in pids) * 1024,
        )


def _build() -> Metric:
    family = GaugeMetricFamily(
        "bridge_build_info", "Versions; always 1.", labels=("version", "celery", "python")
    )
    family.add_metric((bridge.__version__, celery.__version__, platform.python_version()), 1.0)
    return family
