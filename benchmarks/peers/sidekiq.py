"""Sidekiq itself, of one version, in one or more processes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.loads import RUBY, Load, active_job_payload
from benchmarks.peers.base import Peer, Setup, Start
from benchmarks.peers.rails import rails_copy, rails_environment
from benchmarks.processes import ROOT
from benchmarks.roots import RubyRoot
from benchmarks.site import Site

JOBS = ROOT / "benchmarks/apps/jobs.rb"


def app_of(site: Site, setup: Setup) -> tuple[Path, dict[str, str]]:
    """(what Ruby is to load, its environment)."""
    env = {"REDIS_URL": site.url, "BENCH_PROBES": str(site.probe_file), "BENCH_POLL": setup.poll_seconds}
    return (rails_copy(site), env | rails_environment(site)) if setup.rails else (JOBS, env)


def ruby_template(load: Load, queue: str) -> tuple[str, str] | None:
    """Return (list, job) for the kinds that are not plain Sidekiq jobs."""
    if load.kind not in ("write", "find"):
        return None
    return f"queue:{queue}", active_job_payload(RUBY[load.kind], load.args, queue)


class Sidekiq(Peer):
    """``name`` says the version; ``root`` is where it is."""

    noop_rate = 14000.0
    root: RubyRoot

    def __init__(self, root: RubyRoot, name: str = "") -> None:
        super().__init__(name or f"Sidekiq {root.short}")
        self.root = root
        if root.short < "7":
            self.noop_rate = 10000.0

    def starts(self, site: Site, setup: Setup) -> list[Start]:
        """Start ``setup.workers`` processes of the same command."""
        return [self._process(site, setup, number + 1) for number in range(setup.workers)]

    def template(self, load: Load, queue: str) -> tuple[str, str]:
        """Also an ActiveJob."""
        return ruby_template(load, queue) or super().template(load, queue)

    def _process(self, site: Site, setup: Setup, number: int) -> Start:
        app, env = app_of(site, setup)
        command = ["sidekiq", "-r", str(app), "-c", str(setup.concurrency)]
        command += ["-e", "production"] if setup.rails else []
        for queue in setup.queues:
            command += ["-q", queue]
        return Start(
            f"sidekiq-{number}",
            self.root.command(site.folder, *command),
            env,
            lambda: site.server.scard("processes") >= number,
        )
