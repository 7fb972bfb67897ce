"""The bridge: workers, and a sidecar with a number of Puma workers (none: native tasks only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.loads import Load, sidekiq_payload
from benchmarks.peers.base import Peer, Setup, Start
from benchmarks.peers.sidecar import sidecar, socket_of
from benchmarks.peers.sidekiq import ruby_template
from benchmarks.processes import PYTHON_BIN
from benchmarks.roots import RubyRoot
from benchmarks.site import Site


@dataclass(frozen=True)
class Tuning:
    """Arguments and environment that a run gives the bridge's workers, to try them."""

    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


APP = "benchmarks.apps.native"


class Bridge(Peer):
    """``root`` is the Ruby of the sidecar; ``pool`` one of Celery's, empty for the bridge's own."""

    def __init__(
        self, name: str, root: RubyRoot | None, puma_workers: int, tuning: Tuning, pool: str = ""
    ) -> None:
        super().__init__(name)
        self.root = root
        self.puma_workers = puma_workers
        self.cores = 2 if pool else max(1, puma_workers)
        self.tuning = tuning
        self.pool = pool
        self.noop_rate = 10000.0 if puma_workers else 15000.0

    def starts(self, site: Site, setup: Setup) -> list[Start]:
        """The sidecar first."""
        workers = [self._worker(site, setup, number + 1) for number in range(setup.workers)]
        if self.root is None or not self.puma_workers:
            return workers
        return [sidecar(site, setup, self.root, self.puma_workers), *workers]

    def job_class(self, load: Load) -> str:
        """Return the Ruby class, or without a sidecar the native one."""
        return super().job_class(load) if self.puma_workers else f"Native{load.kind.capitalize()}"

    def template(self, load: Load, queue: str) -> tuple[str, str]:
        """Also an ActiveJob."""
        return ruby_template(load, queue) or super().template(load, queue)

    def probe(self, args: Sequence[Any], jid: str, queue: str = "default") -> tuple[str, str]:
        """Return (list, job) of the Ruby class, or without a sidecar of the native one."""
        return f"queue:{queue}", sidekiq_payload(self.job_class(Load("probe")), args, queue, jid)

    def _worker(self, site: Site, setup: Setup, number: int) -> Start:
        command = [str(PYTHON_BIN / "celery"), "-A", APP, "worker", "-n", f"bench{number}@%h"]
        return Start(
            f"worker-{number}",
            [*command, *self._options(setup)],
            self._environment(site) | dict(self.tuning.env),
            lambda: site.server.scard("processes") >= number,
        )

    def _options(self, setup: Setup) -> list[str]:
        options = ["-l", "CRITICAL", "-c", str(setup.concurrency), "-Q", ",".join(setup.queues)]
        return [*options, *(["-P", self.pool] if self.pool else []), *self.tuning.arguments]

    def _environment(self, site: Site) -> dict[str, str]:
        made = {
            "BRIDGE_REDIS_URL": site.url,
            "BRIDGE_HEALTH_BIND": "127.0.0.1:0",
            "BENCH_PROBES": str(site.probe_file),
        }
        # A worker with a sidecar that never answers tells Redis of each death.
        return made | ({"BRIDGE_SIDECAR_URL": f"unix://{socket_of(site)}"} if self.puma_workers else {})


class BridgeUp(Bridge):
    """``bridge up``: one command that starts all workers."""

    def starts(self, site: Site, setup: Setup) -> list[Start]:
        """One process, whose children are the workers."""
        command = [str(PYTHON_BIN / "python"), "-m", "bridge", "up", "--workers", str(setup.workers)]
        return [
            Start(
                "up",
                [*command, "-A", APP, "--", *self._options(setup)],
                self._environment(site) | dict(self.tuning.env),
                lambda: site.server.scard("processes") >= setup.workers,
            )
        ]
