"""The cost of one pushed job to a fleet of workers: Redis commands, those inside scripts too, and CPU."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks import procfs
from benchmarks.loads import ID, Load
from benchmarks.methods.idle import REST_SECONDS, commands
from benchmarks.methods.pushing import Pushing
from benchmarks.peers.base import Peer, Setup, Team
from benchmarks.processes import BenchmarkFailed, wait_until
from benchmarks.site import Site

#: Before anything counts: every worker has seen some jobs.
WARM_UP_SECONDS, WARM_UP_RATE = 2.0, 50.0
DRAIN_SECONDS = 30.0
MICRO, MILLI = 1e6, 1e3


class Used(NamedTuple):
    """Of a whole fleet in some time."""

    seconds: float
    commands: float
    cpu_seconds: float
    redis_seconds: float

    def beyond(self, idle: Used) -> Used:
        """Without what the fleet uses in the same time without jobs."""
        factor = self.seconds / idle.seconds
        return Used(
            self.seconds, *(ours - factor * rest for ours, rest in zip(self[1:], idle[1:], strict=True))
        )


@dataclass(frozen=True)
class Fleet:
    """The fleet is watched without jobs for ``idle`` seconds, as long at one rate, ``busy`` s at another.

    Rates are jobs a second. ``idle`` of a multiple of 10 s counts whole heartbeats of every peer.
    """

    idle: float
    busy: float
    calm_rate: float
    busy_rate: float
    kilobytes: int = 1
    seed: int = 1

    def __call__(self, peer: Peer, setup: Setup, site: Site) -> dict[str, float]:
        """One measurement. Raises BenchmarkFailed when a job was not run."""
        chance = random.Random(self.seed)
        key, template = peer.template(Load("noop", kilobytes=self.kilobytes), setup.queues[0])
        with peer.started(site, setup) as team, Pushing(site, key, template, ID) as pushing:

            def push(seconds: float, rate: float) -> None:
                pushing.at_random(seconds, rate, chance)
                wait_until(lambda: peer.left(site, setup) == 0, DRAIN_SECONDS, "the jobs to be taken", 0.05)

            push(WARM_UP_SECONDS, WARM_UP_RATE)
            time.sleep(REST_SECONDS)
            idle = _watch(site, team, lambda: time.sleep(self.idle))
            before = pushing.pushed
            calm = _watch(site, team, lambda: push(self.idle, self.calm_rate))
            between = pushing.pushed
            busy = _watch(site, team, lambda: push(self.busy, self.busy_rate))
        _verify(peer, setup, site, pushing.pushed)
        return cost(idle, (calm, between - before), (busy, pushing.pushed - between))


def _verify(peer: Peer, setup: Setup, site: Site, pushed: int) -> None:
    """Every pushed job was executed: the workers have ended, and have written what they counted."""
    found = int(site.server.get("stat:processed") or 0)
    if found != pushed:
        raise BenchmarkFailed(f"{pushed} jobs pushed, {found} executed, {peer.left(site, setup)} left")


def _watch(site: Site, team: Team, wait: Callable[[], object]) -> Used:
    site.server.config_resetstat()
    own, theirs = procfs.cpu_seconds(team.pids), procfs.cpu_seconds([site.redis_pid])
    began = time.monotonic()
    wait()
    seconds = time.monotonic() - began
    own, theirs = procfs.cpu_seconds(team.pids) - own, procfs.cpu_seconds([site.redis_pid]) - theirs
    return Used(seconds, sum(commands(site).values()), own, theirs)


def cost(idle: Used, calm: tuple[Used, int], busy: tuple[Used, int]) -> dict[str, float]:
    """The figures of a fleet. ``calm`` and ``busy`` are what it used, and the jobs that it got meanwhile."""
    (calmly, few), (busily, many) = calm, busy
    calmly, busily = calmly.beyond(idle), busily.beyond(idle)
    idle_share, redis_us = idle.redis_seconds / idle.seconds, busily.redis_seconds / many * MICRO
    return {
        "jobs": float(few + many),
        "commands_per_job": calmly.commands / few,
        "cpu_ms_per_job": calmly.cpu_seconds / few * MILLI,
        "busy_commands_per_job": busily.commands / many,
        "busy_cpu_ms_per_job": busily.cpu_seconds / many * MILLI,
        "redis_us_per_job": redis_us,
        "carried_per_second": (1 - idle_share) * MICRO / redis_us,
        "idle_commands_per_second": idle.commands / idle.seconds,
        "idle_redis_percent": idle_share * 100,
    }
