"""Jobs per second, CPU and memory: jobs wait in the queue, and the clock runs until none is left.

Warm-up first, with the same kind of job. The jobs come into the queue at one stroke. Afterwards the peer is
stopped and must have executed every job that was pushed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks import procfs
from benchmarks.loads import SCHEDULE, Load, release, stage
from benchmarks.methods.meter import Meter
from benchmarks.peers.base import Peer, Setup
from benchmarks.processes import BenchmarkFailed, wait_until
from benchmarks.site import Site

FEWEST_JOBS = 60
WARM_UP_PART = 0.15
WARM_UP_SECONDS = 60.0
REST_SECONDS = 0.3
#: Longest time one measurement may take.
LIMIT_SECONDS = 90.0
MICRO = 1e6


@dataclass(frozen=True)
class Throughput:
    """``seconds`` is how long the measured part should take, roughly."""

    load: Load
    seconds: float

    def __call__(self, peer: Peer, setup: Setup, site: Site) -> dict[str, float]:
        """One measurement. Raises BenchmarkFailed when it gave no figure or a job is missing."""
        run = _Run(peer, setup, site, self.load)
        jobs = self._jobs(peer, setup)
        with peer.started(site, setup) as team:
            run.warm_up(max(self._fewest(setup), int(jobs * WARM_UP_PART)))
            used = run.measure(jobs, team.pids, team.pids[-setup.workers :])
            counted = peer.executed_so_far(site)
        run.verify(counted)
        return _figures(jobs, used)

    def _jobs(self, peer: Peer, setup: Setup) -> int:
        jobs = max(self._fewest(setup), int(peer.expected_rate(self.load, setup) * self.seconds))
        # Each batch is one of 1,000 jobs, whatever their number.
        return self.load.batches * max(1, jobs // self.load.batches)

    @staticmethod
    def _fewest(setup: Setup) -> int:
        return max(FEWEST_JOBS, len(setup.queues))


class _Run:
    """One peer, one load; counts what was pushed."""

    def __init__(self, peer: Peer, setup: Setup, site: Site, load: Load) -> None:
        self._peer = peer
        self._setup = setup
        self._site = site
        self._templates = [peer.template(load, queue) for queue in setup.queues]
        # A queue that all kinds share, as Celery's, is one.
        self._templates = list(dict.fromkeys(self._templates))
        if load.due:
            self._templates = [(SCHEDULE, template) for _, template in self._templates]
        self._keys = [key for key, _ in self._templates]
        self._load = load
        self._pushed = 0

    def warm_up(self, jobs: int) -> None:
        """The same kind of job, until none is left."""
        self._stage(jobs, "warm")
        release(self._site, self._keys, "warm")
        wait_until(lambda: not self._left(), WARM_UP_SECONDS, f"the warm-up of {self._peer.name}", 0.02)
        time.sleep(REST_SECONDS)

    def measure(self, jobs: int, pids: list[int], workers: list[int]) -> dict[str, float]:
        """Return the meter's figures for these jobs. ``workers`` are those of the processes that fetch."""
        batches = self._load.batches
        waiting = max(jobs, self._load.backlog)
        for batch in range(batches):
            self._stage(waiting // batches, str(batch))
        meter, workers_cpu = Meter(pids, self._site.redis_pid), procfs.cpu_seconds(workers)
        for batch in range(batches):
            release(self._site, self._keys, str(batch))
            if self._load.due:
                # Who looks every second is not slower than who looks at once.
                wait_until(lambda: self._left() < waiting, WARM_UP_SECONDS, "the first due job", 0.001)
                meter, workers_cpu = Meter(pids, self._site.redis_pid), procfs.cpu_seconds(workers)
            self._until_left(waiting // batches - jobs // batches, jobs // batches, meter)
        return meter.stop() | {"worker_cpu_seconds": procfs.cpu_seconds(workers) - workers_cpu}

    def verify(self, counted: int | None) -> None:
        """Every job that was pushed was executed, or still waits where a backlog was wanted."""
        found = counted if counted is not None else int(self._site.server.get("stat:processed") or 0)
        left = self._left()
        if found + left != self._pushed or (left and not self._load.backlog):
            raise BenchmarkFailed(f"{self._pushed} jobs pushed, {found} executed, {left} left")

    def _stage(self, jobs: int, tag: str) -> None:
        stage(self._site, self._templates, jobs, self._pushed, tag)
        self._pushed += jobs

    def _until_left(self, target: int, jobs: int, meter: Meter) -> None:
        began = time.monotonic()
        deadline = began + LIMIT_SECONDS
        while (left := self._left()) > target:
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"after {LIMIT_SECONDS:.0f} s {left - target} of {jobs} jobs are left")
            meter.look()
            # Asked rarely while much is left, so that asking costs nothing, and often towards the end.
            gone = time.monotonic() - began
            rest = gone * (left - target) / max(1, jobs - (left - target))
            time.sleep(min(0.04, max(0.002, rest / 4)))

    def _left(self) -> int:
        return self._peer.left(self._site, self._setup)


def _figures(jobs: int, used: dict[str, float]) -> dict[str, float]:
    return {
        "jobs": float(jobs),
        "jobs_per_second": jobs / used["seconds"],
        "cpu_us_per_job": used["cpu_seconds"] / jobs * MICRO,
        "worker_us_per_job": used["worker_cpu_seconds"] / jobs * MICRO,
        "redis_us_per_job": used["redis_cpu_seconds"] / jobs * MICRO,
        "cost_us_per_job": (used["cpu_seconds"] + used["redis_cpu_seconds"]) / jobs * MICRO,
        "busy_cores": (used["cpu_seconds"] + used["redis_cpu_seconds"]) / used["seconds"],
        "pss_mb": used["pss_mb"],
    }
