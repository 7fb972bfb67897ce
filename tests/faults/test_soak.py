"""A million jobs, and a million that wait: memory does not grow, and a job costs the same."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis

from tests.faults.account import Account
from tests.faults.report import Report
from tests.faults.rig import MODULE, RUBY
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for

MILLION = int(os.environ.get("FAULTS_SOAK_JOBS") or 1_000_000)
MEGABYTE = 1024 * 1024
#: Jobs made inside Redis: a million of them take a client minutes.
MAKE_JOBS = """
for number = ARGV[1], ARGV[2] do
  local payload = '{"class":"%s","args":[],"jid":"%024x","retry":true,"queue":"default"}'
  redis.call('LPUSH', KEYS[1], string.format(payload, ARGV[3], number))
end
"""
MAKE_RETRIES = """
for number = ARGV[1], ARGV[2] do
  local payload = '{"class":"X","args":[],"jid":"f%023x","retry":true,"queue":"default","retry_count":1}'
  redis.call('ZADD', KEYS[1], 4000000000 + number, string.format(payload, number))
end
"""


@dataclass
class Soak:
    """One worker on a Redis of its own."""

    stage: Stage
    made: int = 0

    @property
    def processed(self) -> int:
        return self.stage.counters()[0]

    @property
    def process(self) -> psutil.Process:
        assert self.stage.worker is not None
        return psutil.Process(self.stage.worker.pid)

    def push(self, count: int, job_class: str) -> None:
        self._in_redis(MAKE_JOBS, "queue:default", count, job_class)

    def fill_retry(self, count: int) -> None:
        self._in_redis(MAKE_RETRIES, "retry", count, "")

    def wait_processed(self, count: int, seconds: float) -> None:
        wait_for(lambda: self.processed >= count, f"{count} jobs to be processed", seconds)

    def _in_redis(self, script: str, key: str, count: int, job_class: str) -> None:
        with self.stage.redis.client() as client:
            for first in range(self.made, self.made + count, 10_000):
                last = min(first + 10_000, self.made + count) - 1
                client.eval(script, 1, key, first, last, job_class)
        self.made += count


@pytest.fixture
def soak(ruby_root: RubyRoot) -> Iterator[Soak]:
    with tempfile.TemporaryDirectory(prefix="sb-soak-") as directory:
        server = RedisServer(Path(directory))
        stage = Stage(server, ruby_root, jobs=RUBY / "fault_jobs.rb")
        try:
            yield Soak(stage)
        finally:
            stage.stop()
            server.stop()


def record(report: Report, fault: str, jobs: int, note: str) -> None:
    report.add(fault, Account(jobs, (), {}, (), ()), None, note)


def resident_while(
    soak: Soak, processes: list[psutil.Process], end: int, refill: Callable[[], None]
) -> list[list[float]]:
    """Rows of (jobs processed, megabytes of each process), one a second, until so many are processed."""
    rows: list[list[float]] = []
    while (done := soak.processed) < end:
        rows.append([done, *(process.memory_info().rss / MEGABYTE for process in processes)])
        refill()
        time.sleep(1)
    return rows


def growth(rows: list[list[float]], column: int) -> tuple[float, float]:
    """Megabytes between the means of the second and the last fifth, and bytes for each job between them."""
    fifth = max(1, len(rows) // 5)
    early, late = rows[fifth : 2 * fifth], rows[-fifth:]
    memory = [sum(row[column] for row in part) / len(part) for part in (early, late)]
    jobs = [sum(row[0] for row in part) / len(part) for part in (early, late)]
    return memory[1] - memory[0], (memory[1] - memory[0]) * MEGABYTE / max(1, jobs[1] - jobs[0])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("job_class", "jobs"), [("NativeNothingJob", MILLION), ("NothingJob", MILLION // 5)])
def test_memory_does_not_grow_with_the_number_of_jobs(
    soak: Soak, report: Report, job_class: str, jobs: int
) -> None:
    sidecar = soak.stage.start_sidecar(threads=10)
    soak.stage.start_worker(module=MODULE, concurrency=10)
    processes = [soak.process, psutil.Process(sidecar.process.pid)]
    started = time.monotonic()

    def refill() -> None:
        if soak.made < jobs and soak.made - soak.processed < 50_000:
            soak.push(min(50_000, jobs - soak.made), job_class)

    rows = resident_while(soak, processes, jobs, refill)
    rate = jobs / (time.monotonic() - started)

    names = ("worker", "sidecar")
    grown = {name: growth(rows, column) for column, name in enumerate(names, 1)}
    told = ", ".join(
        f"{name} {total:+.1f} MB ({slope:+.2f} bytes a job)" for name, (total, slope) in grown.items()
    )
    record(report, f"soak: {jobs} jobs of {job_class}", jobs, f"{rate:.0f} jobs/s; RSS {told}")
    assert soak.stage.counters() == (jobs, 0)
    # The sidecar remembers up to 10,000 outcomes; all others are forgotten.
    assert grown["worker"][0] < 10
    assert grown["sidecar"][0] < 30


@dataclass(frozen=True)
class Cost:
    """Of one job."""

    commands: float
    worker_microseconds: float
    redis_microseconds: float


def cost_of(soak: Soak, jobs: int) -> Cost:
    """Over the next so many jobs, while the worker is busy."""
    first = soak.processed
    before, server = usage(soak), psutil.Process(soak.stage.server.process.pid)
    redis_before = sum(server.cpu_times()[:2])
    soak.wait_processed(first + jobs, 300)
    after, counted = usage(soak), soak.processed - first
    return Cost(
        (after[0] - before[0]) / counted,
        (after[1] - before[1]) / counted * 1e6,
        (sum(server.cpu_times()[:2]) - redis_before) / counted * 1e6,
    )


def usage(soak: Soak) -> tuple[int, float]:
    """Redis commands so far, seconds of the worker's CPU."""
    commands = soak.stage.redis.info("stats")["total_commands_processed"]
    return int(commands), sum(soak.process.cpu_times()[:2])


@pytest.mark.timeout(900)
def test_a_job_costs_the_same_whatever_waits_beside_it(soak: Soak, report: Report) -> None:
    client: redis.Redis = soak.stage.redis
    # Without a sidecar the worker would look at each queue's tail first, for Ruby jobs that must wait.
    soak.stage.start_sidecar(threads=10)
    soak.stage.start_worker(module=MODULE, concurrency=10)
    soak.push(30_000, "NativeNothingJob")
    soak.wait_processed(5_000, 120)
    empty = cost_of(soak, 20_000)
    soak.wait_processed(30_000, 120)

    soak.fill_retry(MILLION)
    soak.push(MILLION, "NativeNothingJob")
    client.config_set("slowlog-log-slower-than", 20_000)
    client.slowlog_reset()
    client.config_resetstat()
    full = cost_of(soak, 20_000)
    slow = [entry["command"][:60] for entry in client.slowlog_get(20)]
    used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}

    told = (
        f"commands {empty.commands:.2f} -> {full.commands:.2f}, "
        f"worker {empty.worker_microseconds:.0f} -> {full.worker_microseconds:.0f} us, "
        f"Redis {empty.redis_microseconds:.0f} -> {full.redis_microseconds:.0f} us"
    )
    record(report, f"46 backlog of {MILLION} and {MILLION} in retry: cost of a job", 20_000, told)
    assert full.commands <= empty.commands * 1.25 + 0.05
    assert full.worker_microseconds <= empty.worker_microseconds * 1.5
    assert not slow
    # Whatever reads all of something.
    assert not used & {"keys", "smembers|queue", "sort", "lrange", "zrange", "hgetall", "lrem", "linsert"}
