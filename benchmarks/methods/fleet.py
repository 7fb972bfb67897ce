"""The cost of one pushed job to a fleet of workers: Redis commands, those inside scripts too, and CPU."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from benchmarks import procfs
from benchmarks.loads import ID, Load
from benchmarks.methods.idle import REST_SECONDS, commands
from benchmarks.peers.base import Peer, Setup, Team
from benchmarks.processes import wait_until
from benchmarks.site import Site

#: Before anything counts: every worker has seen some jobs.
WARM_UP_SECONDS, WARM_UP_RATE = 2.0, 50.0
DRAIN_SECONDS = 30.0


@dataclass(frozen=True)
class Fleet:
    """``rate`` jobs a second come for ``seconds``; the fleet is watched as long without a job before."""

    seconds: float
    rate: float
    seed: int = 1

    def __call__(self, peer: Peer, setup: Setup, site: Site) -> dict[str, float]:
        """One measurement. Raises BenchmarkFailed when a job was not run."""
        chance = random.Random(self.seed)
        key, template = peer.template(Load("noop"), setup.queues[0])
        with peer.started(site, setup) as team:
            _push(site, key, template, WARM_UP_SECONDS, WARM_UP_RATE, chance)
            time.sleep(REST_SECONDS)
            idle = self._watch(site, team, lambda: time.sleep(self.seconds))
            pushed = 0

            def push() -> None:
                nonlocal pushed
                pushed = _push(site, key, template, self.seconds, self.rate, chance)
                wait_until(lambda: peer.left(site, setup) == 0, DRAIN_SECONDS, "the jobs to be taken", 0.05)

            busy = self._watch(site, team, push)
        (idle_calls, idle_cpu), (calls, cpu) = idle, busy
        return {
            "jobs": float(pushed),
            "commands_per_job": (calls - idle_calls) * self.seconds / pushed,
            "cpu_ms_per_job": (cpu - idle_cpu) * self.seconds / pushed * 1000,
            "idle_commands_per_second": idle_calls,
        }

    def _watch(self, site: Site, team: Team, wait: object) -> tuple[float, float]:
        """Commands and CPU seconds for each second of this time."""
        assert callable(wait)
        site.server.config_resetstat()
        cpu, began = procfs.cpu_seconds(team.pids), time.monotonic()
        wait()
        seconds = time.monotonic() - began
        calls = sum(commands(site).values())
        return calls / seconds, (procfs.cpu_seconds(team.pids) - cpu) / seconds


def _push(site: Site, key: str, template: str, seconds: float, rate: float, chance: random.Random) -> int:
    """Push as Sidekiq's client does, at random moments."""
    queue, due, number = key.removeprefix("queue:"), time.monotonic(), 0
    end = due + seconds
    while (due := due + chance.expovariate(rate)) < end:
        time.sleep(max(0.0, due - time.monotonic()))
        number += 1
        pipeline = site.server.pipeline(transaction=False)
        pipeline.sadd("queues", queue)
        pipeline.lpush(key, template.replace(ID, f"{number:024x}"))
        pipeline.execute()
    time.sleep(max(0.0, end - time.monotonic()))
    return number
