"""The cost of an idle worker: CPU, and the commands that Redis gets, including those inside scripts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks import procfs
from benchmarks.methods.meter import Meter
from benchmarks.peers.base import Peer, Setup
from benchmarks.site import Site

#: How long a worker has to come to rest after its start.
REST_SECONDS = 4.0
#: The two questions that this measurement asks itself.
OWN = ("info", "config|resetstat")


@dataclass(frozen=True)
class Idle:
    """``seconds`` of watching: a multiple of Sidekiq's heartbeat of 10 s gives the fairest figures."""

    seconds: float

    def __call__(self, peer: Peer, setup: Setup, site: Site) -> dict[str, float]:
        """One measurement."""
        with peer.started(site, setup) as team:
            time.sleep(REST_SECONDS)
            site.server.config_resetstat()
            meter = Meter(team.pids, site.redis_pid)
            worker = procfs.cpu_seconds(team.pids[-1:])
            time.sleep(self.seconds)
            worker = procfs.cpu_seconds(team.pids[-1:]) - worker
            calls = commands(site)
            used = meter.stop()
        return _figures(calls, used, worker)


def _figures(calls: dict[str, float], used: dict[str, float], worker: float) -> dict[str, float]:
    seconds = used["seconds"]
    each = {f"commands_per_second:{name}": count / seconds for name, count in calls.items()}
    return {
        "commands_per_second": sum(each.values()),
        "cpu_percent": used["cpu_seconds"] / seconds * 100,
        "worker_cpu_percent": worker / seconds * 100,
        "redis_cpu_percent": used["redis_cpu_seconds"] / seconds * 100,
        "pss_mb": used["pss_mb"],
        **each,
    }


def commands(site: Site) -> dict[str, float]:
    """Calls of each command since the statistics were reset."""
    stats = site.server.info("commandstats")
    found = {name.removeprefix("cmdstat_"): float(value["calls"]) for name, value in stats.items()}
    return {name: calls for name, calls in found.items() if name not in OWN}
