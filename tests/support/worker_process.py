"""A real `celery -A bridge worker`, and other commands of the application."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import redis

from tests.support import redis_users
from tests.support.processes import ROOT, Process, ended_unless_ready

CELERY = Path(sys.executable).with_name("celery")
SHUTDOWN_SECONDS = 2


def foreign_zone() -> str:
    """A time zone where it is another day than in UTC, whose dates stand in Redis."""
    return "Pacific/Kiritimati" if time.gmtime().tm_hour >= 11 else "Pacific/Pago_Pago"


def bridge_environment(redis_url: str, sidecar_url: str | None) -> dict[str, str]:
    """The settings of an application under test."""
    found = {
        "BRIDGE_REDIS_URL": redis_users.for_bridge(redis_url),
        "BRIDGE_HEALTH_BIND": "127.0.0.1:0",
        "BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": str(SHUTDOWN_SECONDS),
        "BRIDGE_LEASE_SECONDS": "5",
        "BRIDGE_LOG_FORMAT": "text",
        "PYTHONPATH": str(ROOT),
        "TZ": foreign_zone(),
    }
    return found if sidecar_url is None else {**found, "BRIDGE_SIDECAR_URL": sidecar_url}


class WorkerProcess:
    """One Celery worker, ready when it stands in Sidekiq's ``processes``."""

    def __init__(
        self,
        directory: Path,
        redis_url: str,
        sidecar_url: str | None,
        *arguments: str,
        module: str = "tests.support.native_tasks",
        concurrency: int = 5,
        env: Mapping[str, str] | None = None,
        name: str = "worker",
        wrapper: Sequence[str | Path] = (),
        cwd: Path = ROOT,
    ) -> None:
        self._redis = redis.Redis.from_url(redis_url)
        before = self._redis.smembers("processes")
        self.process = Process(
            name,
            [*wrapper, CELERY, "-A", module, "worker", "-c", str(concurrency), "-l", "INFO", *arguments],
            directory,
            cwd=cwd,
            env={**bridge_environment(redis_url, sidecar_url), **(env or {})},
        )
        with ended_unless_ready(self.process):
            self.process.wait_ready(lambda: self._members() - before, 40)
            self.process.wait_ready(
                lambda: f"{name}@" in self.process.log or "ready." in self.process.log, 20
            )

    def _members(self) -> set[bytes]:
        """Empty while Redis is away: the worker waits for it as well, and is not to be ended for that."""
        try:
            return self._redis.smembers("processes")
        except redis.RedisError:
            return set()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def identity(self) -> str:
        """Its present name on the Busy page; empty while it has none."""
        found = (member.decode() for member in self._redis.smembers("processes"))
        return next((name for name in found if name.split(":")[1] == str(self.pid)), "")

    @property
    def log(self) -> str:
        return self.process.log

    def terminate(self, seconds: float = 30.0) -> int:
        """TERM, and its exit status."""
        self.process.signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        self.process.kill()
        return status

    def stop(self) -> None:
        self.process.stop(SHUTDOWN_SECONDS + 10)
        self._redis.close()
