"""Simulated workers: many in a few processes, with the Redis commands of real ones (``benchmarks/crowd``)."""

from __future__ import annotations

from benchmarks.loads import Load
from benchmarks.peers.base import Peer, Setup, Start
from benchmarks.processes import PYTHON_BIN
from benchmarks.site import Site

#: Workers of one process. Each has some ten connections, and select(2), which the product uses, knows 1,024.
MOST = 50


class Crowd(Peer):
    """``kind`` is that of ``benchmarks.crowd``: ``bridge`` or ``sidekiq``."""

    noop_rate = 6000.0

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(name)
        self.kind = kind

    def starts(self, site: Site, setup: Setup) -> list[Start]:
        """As few processes as carry all workers."""
        sizes = [min(MOST, setup.workers - first) for first in range(0, setup.workers, MOST)]
        return [self._start_of(number, size, site, setup) for number, size in enumerate(sizes)]

    def job_class(self, load: Load) -> str:
        """Return a class that a native worker knows, or the Ruby class."""
        return f"Native{load.kind.capitalize()}" if self.kind == "bridge" else super().job_class(load)

    def _start_of(self, number: int, size: int, site: Site, setup: Setup) -> Start:
        command = [str(PYTHON_BIN / "python"), "-m", "benchmarks.crowd", self.kind, str(size)]
        command += ["--slots", str(setup.concurrency), "--queues", ",".join(setup.queues)]
        env = {"BRIDGE_REDIS_URL": site.url, "BENCH_PROBES": str(site.probe_file)}
        return Start(f"crowd-{number}", command, env, lambda: site.server.scard("processes") >= setup.workers)
