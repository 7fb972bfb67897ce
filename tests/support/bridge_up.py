"""A real `bridge up`."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from tests.support.processes import Process
from tests.support.sidecar_process import JOBS
from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.support.worker_process import bridge_environment


class BridgeUp:
    """`bridge up` on the Redis of a stage."""

    def __init__(
        self,
        stage: Stage,
        *options: str,
        workers: int = 2,
        sidecar: bool = False,
        celery: Sequence[str] = ("-c", "5"),
        env: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        module: str = "tests.support.native_tasks",
    ) -> None:
        self._stage, self.workers = stage, workers
        ruby = ["--sidecar", str(JOBS)] if sidecar else []
        words = ["up", "--workers", str(workers), *ruby, "-A", module, *options, "--", *celery]
        self.process = Process(
            "up",
            [*wrapper, sys.executable, "-m", "bridge", *words],
            stage.directory,
            env={
                **bridge_environment(stage.redis_url, None),
                "REDIS_URL": stage.redis_url,
                "TEST_LEDGER": str(stage.ledger.path),
                "TEST_LEDGER_HOST": str(stage.ledger.path),
                "HOME": "/tmp",
                **(env or {}),
            },
        )

    def wait_ready(self, seconds: float = 60.0) -> BridgeUp:
        """Wait until every process is ready."""
        self.process.wait_ready(lambda: ": ready: " in self.log, seconds)
        return self

    @property
    def log(self) -> str:
        return self.process.log

    @property
    def supervisor(self) -> psutil.Process:
        """`bridge up` itself, also below `unshare`."""
        outer = psutil.Process(self.process.pid)
        family = [outer, *outer.children(recursive=True)]
        return next(each for each in family if each.cmdline()[1:4] == ["-m", "bridge", "up"])

    def pids(self, name: str = "") -> list[int]:
        """The main processes of the workers, or of the sidecar, that run now."""
        children = [each for each in self.supervisor.children() if each.status() != psutil.STATUS_ZOMBIE]
        found = {each.pid: each.cmdline() for each in children}
        is_sidecar = {
            pid: any("sidecar/bin/sidecar" in word for word in words) for pid, words in found.items()
        }
        return sorted(pid for pid in found if is_sidecar[pid] is (name == "sidecar"))

    def rows(self) -> list[dict[str, Any]]:
        """The processes on the Busy page."""
        redis = self._stage.redis
        return [
            {"identity": name.decode(), "quiet": redis.hget(name, "quiet") == b"true", **json.loads(info)}
            for name in redis.smembers("processes")
            if (info := redis.hget(name, "info"))
        ]

    def wait_for_workers(self, condition: Any = None, seconds: float = 40.0) -> list[int]:
        """Wait until the Busy page shows as many workers as were asked for. Gives their pids."""

        def seen() -> list[int]:
            pids = sorted(row["pid"] for row in self.rows())
            complete = len(pids) == self.workers and (condition is None or condition(pids))
            return pids if complete else []

        return wait_for(seen, f"{self.workers} workers on the Busy page", seconds)

    def signal(self, number: signal.Signals) -> None:
        self.supervisor.send_signal(number)

    def wait_log(self, pattern: str, seconds: float = 40.0) -> re.Match[str]:
        return wait_for(lambda: re.search(pattern, self.log), f"{pattern!r} in the log", seconds)

    def terminate(self, seconds: float = 40.0) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def stop(self) -> None:
        if self.process.is_alive:
            children = self.supervisor.children(recursive=True)
            self.supervisor.send_signal(signal.SIGTERM)
            self.process.stop(20)
            # The kernel tells the children when `bridge up` is killed; a test must not leave them.
            _, alive = psutil.wait_procs(children, 10)
            for each in alive:
                each.kill()
        else:
            self.process.kill()
