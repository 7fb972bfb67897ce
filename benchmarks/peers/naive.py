"""The bridge that one writes in an afternoon: BRPOP, ``apply_async``, and ``requests`` to the sidecar."""

from __future__ import annotations

from benchmarks.peers.base import Peer, Setup, Start
from benchmarks.peers.sidecar import sidecar, socket_of
from benchmarks.processes import PYTHON_BIN
from benchmarks.roots import RubyRoot
from benchmarks.site import Site

PUMA_WORKERS = 2
MODULE = "benchmarks.apps.naive"


class NaiveBridge(Peer):
    """Celery on its stock transport behind a loop that feeds it; the same sidecar as the bridge's."""

    noop_rate = 350.0
    cores = PUMA_WORKERS
    root: RubyRoot

    def __init__(self, root: RubyRoot) -> None:
        super().__init__("naive bridge")
        self.root = root

    def starts(self, site: Site, setup: Setup) -> list[Start]:
        """Sidecar, Celery worker, and the loop."""
        env = {"BENCH_REDIS_URL": site.url, "BENCH_SIDECAR": str(socket_of(site))}
        worker = [str(PYTHON_BIN / "celery"), "-A", MODULE, "worker", "-l", "CRITICAL", "-P", "threads"]
        worker += [
            "-c",
            str(setup.concurrency),
            "--without-mingle",
            "--without-gossip",
            "--without-heartbeat",
        ]
        return [
            sidecar(site, setup, self.root, PUMA_WORKERS),
            Start("naive-worker", worker, env, lambda: _brpops(site, 1)),
            Start("naive-loop", [str(PYTHON_BIN / "python"), "-m", MODULE], env, lambda: _brpops(site, 2)),
        ]

    def left(self, site: Site, setup: Setup) -> int:
        """Count the jobs that wait before and behind the loop."""
        with site.server.pipeline(transaction=False) as pipeline:
            pipeline.llen("celery")
            pipeline.hlen("unacked")
            behind: list[int] = pipeline.execute()
        return super().left(site, setup) + sum(behind)


def _brpops(site: Site, number: int) -> bool:
    return [client["cmd"] for client in site.server.client_list()].count("brpop") >= number
