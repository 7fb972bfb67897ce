"""Pushes per second of one process, one push for each round trip: no worker is there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.base import Peer, Setup, Start
from benchmarks.processes import PYTHON_BIN, ROOT, BenchmarkFailed, environment
from benchmarks.roots import RubyRoot
from benchmarks.site import Site

LIMIT_SECONDS = 60
MICRO = 1e6


class Pusher(Peer):
    """A program that pushes ``$BENCH_JOBS`` jobs to ``$BENCH_REDIS_URL`` and prints what it took as JSON."""

    def __init__(self, name: str, command: Sequence[str], queue: str, root: RubyRoot | None = None) -> None:
        super().__init__(name)
        self.command = command
        self.queue = queue
        self.root = root

    def starts(self, site: Site, setup: Setup) -> list[Start]:
        """No worker."""
        return []

    def push(self, site: Site, env: Mapping[str, str]) -> dict[str, float]:
        """Run the program. Raises BenchmarkFailed when it fails."""
        command = self.root.command(site.folder, *self.command) if self.root else self.command
        done = subprocess.run(
            command, env=environment(env), cwd=ROOT, capture_output=True, timeout=LIMIT_SECONDS, check=False
        )
        if done.returncode:
            raise BenchmarkFailed(f"{self.name}: {done.stderr.decode()[-800:]}")
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def ruby_pusher(root: RubyRoot) -> Pusher:
    """Sidekiq's own client."""
    script = str(ROOT / "benchmarks/apps/push.rb")
    return Pusher(f"Sidekiq {root.short} client (Ruby)", ["ruby", script], "queue:default", root)


def python_pusher(name: str, kind: str, queue: str) -> Pusher:
    """``kind`` names a function of benchmarks/apps/push.py."""
    return Pusher(name, [str(PYTHON_BIN / "python"), "-m", "benchmarks.apps.push", kind], queue)


@dataclass(frozen=True)
class Push:
    """Measures the push of ``jobs`` jobs."""

    jobs: int

    def __call__(self, peer: Peer, setup: Setup, site: Site) -> dict[str, float]:
        """Make one measurement. Raises BenchmarkFailed when jobs are missing in the queue."""
        assert isinstance(peer, Pusher)
        env = {"BENCH_REDIS_URL": site.url, "BENCH_JOBS": str(self.jobs)}
        used = peer.push(site, env | {"BRIDGE_REDIS_URL": site.url, "REDIS_URL": site.url})
        if (found := site.server.llen(peer.queue)) != self.jobs + used["warm_up"]:
            raise BenchmarkFailed(f"{self.jobs} jobs and the warm-up pushed, {found} in the queue")
        return {
            "jobs": float(self.jobs),
            "pushes_per_second": self.jobs / used["seconds"],
            "cpu_us_per_push": used["cpu_seconds"] / self.jobs * MICRO,
        }
