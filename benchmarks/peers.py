"""Who is measured: each peer starts its processes, gets its jobs, and is watched until its queue is empty."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from benchmarks.processes import PYTHON_BIN, ROOT, running, wait_until

STAGING = "bench:staging"

#: Command line, environment, and a check whether it is ready.
Command = tuple[Sequence[str], Mapping[str, str], Callable[[], bool]]


@dataclass(frozen=True)
class Load:
    """So many jobs of one class."""

    job_class: str
    args: tuple[int, ...]
    jobs: int


@dataclass
class Peer:
    """A worker under test on a private Redis. ``pids`` are its processes, Redis not among them."""

    name: str
    concurrency: int = 20
    queue: str = "queue:default"
    pids: list[int] = field(default_factory=list)

    @contextmanager
    def started(self, server: redis.Redis, url: str, folder: Path) -> Iterator[None]:
        """Run the peer's processes for the time of the block."""
        with ExitStack() as stack:
            for command, env, ready in self.commands(server, url, folder):
                log = folder / f"{self.name.replace(' ', '-').replace('/', '-')}.log"
                process = stack.enter_context(running(command, env, log))
                self.pids.append(process.pid)
                wait_until(ready, 60, f"{self.name} to be ready (see {log})")
            yield
        self.pids.clear()

    def commands(self, server: Any, url: str, folder: Path) -> Iterator[Command]:
        """(command, environment, readiness check) of each process, in order."""
        raise NotImplementedError

    def payloads(self, load: Load) -> list[bytes]:
        """The jobs as they stand in the queue."""
        now = time.time()
        return [
            json.dumps(
                {
                    "retry": True,
                    "queue": "default",
                    "class": load.job_class,
                    "args": [*load.args],
                    "jid": os.urandom(12).hex(),
                    "created_at": now,
                    "enqueued_at": now,
                },
                separators=(",", ":"),
            ).encode()
            for _ in range(load.jobs)
        ]

    def fill(self, server: redis.Redis, load: Load) -> None:
        """Put all jobs into the queue at one stroke."""
        payloads = self.payloads(load)
        for start in range(0, len(payloads), 1000):
            server.lpush(STAGING, *payloads[start : start + 1000])
        server.rename(STAGING, self.queue)


class Sidekiq(Peer):
    """Sidekiq itself; ``root`` is a change-root with another version, or empty."""

    def __init__(self, name: str, root: str = "", concurrency: int = 20) -> None:
        super().__init__(name, concurrency)
        self.root = root

    def commands(self, server: Any, url: str, folder: Path) -> Iterator[Command]:
        """Its processes."""
        command = [
            "sidekiq",
            "-r",
            str(ROOT / "benchmarks/jobs.rb"),
            "-c",
            str(self.concurrency),
            "-q",
            "default",
        ]
        if self.root:
            _mount_proc(Path(self.root))
            target = Path(self.root) / "tmp/bench-jobs.rb"
            shutil.copy(ROOT / "benchmarks/jobs.rb", target)
            command[2] = "/tmp/bench-jobs.rb"
            command = ["chroot", self.root, *command]
        env = {"REDIS_URL": url, "LANG": "C.UTF-8", "RUBYOPT": "-W0"}
        quiet = {"SIDEKIQ_LOG_LEVEL": "warn"}
        yield command, env | quiet, lambda: server.scard("processes") == 1


def _mount_proc(root: Path) -> None:
    """Sidekiq reads its own memory there at each heartbeat, and does not register without."""
    if not (root / "proc/self").exists():
        subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)


class Bridge(Peer):
    """The bridge: a worker, and a sidecar with so many Puma workers (0: native tasks only)."""

    def __init__(self, name: str, puma_workers: int = 0, pool: str = "", concurrency: int = 20) -> None:
        super().__init__(name, concurrency)
        self.puma_workers = puma_workers
        self.pool = pool

    def commands(self, server: Any, url: str, folder: Path) -> Iterator[Command]:
        """Its processes."""
        sock = folder / "sidecar.sock"
        env = {"BRIDGE_REDIS_URL": url, "REDIS_URL": url, "BRIDGE_SIDECAR_URL": f"unix://{sock}"}
        env |= {"BRIDGE_HEALTH_BIND": "127.0.0.1:0", "RUBYOPT": "-W0"}
        if self.puma_workers:
            yield self._sidecar(sock), env, sock.exists
        pool = ["-P", self.pool] if self.pool else []
        worker = [str(PYTHON_BIN / "celery"), "-A", "benchmarks.native", "worker", "-l", "WARNING"]
        yield [*worker, "-c", str(self.concurrency), *pool], env, lambda: server.scard("processes") == 1

    def _sidecar(self, sock: Path) -> list[str]:
        command = ["ruby", str(ROOT / "sidecar/bin/sidecar"), "--require", str(ROOT / "benchmarks/jobs.rb")]
        threads = max(1, self.concurrency // self.puma_workers)
        return [
            *command,
            "--bind",
            f"unix://{sock}",
            "--workers",
            str(self.puma_workers),
            "--threads",
            str(threads),
        ]


class StockCelery(Peer):
    """Celery on its stock Redis transport."""

    def __init__(self, name: str, pool: str, concurrency: int) -> None:
        super().__init__(name, concurrency, queue="celery")
        self.pool = pool

    def commands(self, server: Any, url: str, folder: Path) -> Iterator[Command]:
        """Its processes."""
        command = [
            str(PYTHON_BIN / "celery"),
            "-A",
            "benchmarks.stock",
            "worker",
            "-l",
            "WARNING",
            "-P",
            self.pool,
        ]
        command += [
            "-c",
            str(self.concurrency),
            "--without-mingle",
            "--without-gossip",
            "--without-heartbeat",
        ]
        # Its BRPOP on the queue is the sign that it consumes.
        yield (
            command,
            {"BENCH_REDIS_URL": url},
            lambda: any(c["cmd"] == "brpop" for c in server.client_list()),
        )

    def payloads(self, load: Load) -> list[bytes]:
        """Messages as Celery itself writes them: one is captured and its id exchanged."""
        os.environ["BENCH_REDIS_URL"] = "memory://"
        from kombu import Connection
        from kombu.utils.uuid import uuid

        from benchmarks.stock import noop

        with Connection("memory://") as connection:
            noop.apply_async(args=load.args, connection=connection, queue="captured")
            raw = connection.default_channel._get("captured")
        text, old = json.dumps(raw), raw["headers"]["id"]
        return [text.replace(old, uuid()).encode() for _ in range(load.jobs)]
