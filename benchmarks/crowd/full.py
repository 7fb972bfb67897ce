"""``python -m benchmarks.crowd.full bridge --rates 2000,4000``: what one Redis carries when its core is full.

Redis is held to a part of a core, so that the other cores of a small machine can fill it. That needs root
and control groups of version 1 (``/sys/fs/cgroup/cpu``). A rate that leaves jobs behind is beyond the limit.
"""

from __future__ import annotations

import argparse
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import procfs
from benchmarks.loads import ID, Load
from benchmarks.methods.idle import commands
from benchmarks.methods.pushing import Pushing
from benchmarks.peers.base import Setup
from benchmarks.peers.crowd import Crowd
from benchmarks.processes import wait_until
from benchmarks.site import Site, new_site

GROUPS = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 10_000
#: Processes that push. Each waits for the answer to one job, as a Rails process does.
PRODUCERS = 12
WARM_UP_SECONDS, WARM_UP_RATE, REST_SECONDS, DRAIN_SECONDS = 3.0, 100.0, 2.0, 60.0
MICRO = 1e6


@contextmanager
def held_to(share: float, pid: int) -> Iterator[None]:
    """Let this process have that share of a core."""
    group = GROUPS / f"bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD_US * share)))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        (GROUPS / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def push(producers: list[Pushing], seconds: float, rate: float) -> int:
    """Jobs at random moments. Returns how many."""
    before = sum(one.pushed for one in producers)
    threads = [
        threading.Thread(target=one.at_random, args=(seconds, rate / len(producers), random.Random(number)))
        for number, one in enumerate(producers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(one.pushed for one in producers) - before


def measured(
    site: Site, crowd: Crowd, setup: Setup, producers: list[Pushing], given: argparse.Namespace
) -> None:
    """One line for each rate."""
    time.sleep(REST_SECONDS)
    began, used = time.monotonic(), procfs.cpu_seconds([site.redis_pid])
    time.sleep(given.seconds)
    idle = (procfs.cpu_seconds([site.redis_pid]) - used) / (time.monotonic() - began)
    print(f"{crowd.name}: {setup.workers} workers, idle: {idle:.2%} of Redis' core", flush=True)
    for rate in map(float, given.rates.split(",")):
        site.server.config_resetstat()
        began, used = time.monotonic(), procfs.cpu_seconds([site.redis_pid])
        pushed = push(producers, given.seconds, rate)
        left, seconds = crowd.left(site, setup), time.monotonic() - began
        used, jobs = procfs.cpu_seconds([site.redis_pid]) - used, max(1, pushed - left)
        calls = sum(commands(site).values())
        print(
            f"{pushed / seconds:,.0f} pushed a second, {jobs / seconds:,.0f} taken, {left:,} left; "
            f"Redis {used / seconds:.1%} of a core, {(used - idle * seconds) / jobs * MICRO:.0f} us/job, "
            f"{calls / jobs:.1f} commands/job; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        wait_until(lambda: crowd.left(site, setup) == 0, DRAIN_SECONDS, "the jobs to be taken", 0.05)


def main() -> None:
    """Measure one fleet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("bridge", "sidekiq"))
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.25, help="part of a core that Redis gets")
    parser.add_argument("--rates", default="2000,4000,6000", help="pushes a second, one after the other")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each rate")
    given = parser.parse_args()
    if not (GROUPS / "cpu.cfs_quota_us").exists():
        parser.error(f"{GROUPS} has no control groups of version 1: Redis cannot be held to a part of a core")
    crowd, setup = Crowd(f"{given.kind}, simulated", given.kind), Setup(workers=given.workers)
    with new_site() as site, crowd.started(site, setup):
        key, template = crowd.template(Load("noop", kilobytes=1), setup.queues[0])
        producers = [Pushing(site, key, template, ID) for _ in range(PRODUCERS)]
        for number, one in enumerate(producers):
            one.pushed = number << 40  # no two jobs are the same
        push(producers, WARM_UP_SECONDS, WARM_UP_RATE)
        with held_to(given.share, site.redis_pid):
            measured(site, crowd, setup, producers, given)


if __name__ == "__main__":
    main()
