"""Sidekiq's own process, to compare with and to work beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import redis

from tests.support.processes import ROOT, Process
from tests.support.ruby_root import RubyRoot, Shared
from tests.support.sidecar_process import JOBS


class StockSidekiq:
    """``sidekiq -r jobs.rb``, ready when it stands in ``processes``."""

    def __init__(
        self,
        root: RubyRoot,
        place: Shared,
        redis_url: str,
        *arguments: str,
        jobs: Path = JOBS,
        env: Mapping[str, str] | None = None,
    ) -> None:
        client = redis.Redis.from_url(redis_url)
        before = client.smembers("processes")
        self.process = Process(
            "stock-sidekiq",
            root.command("env", "-C", ROOT, "sidekiq", "-r", jobs, "-t", "2", *arguments),
            place.path,
            env={
                "REDIS_URL": redis_url,
                "TEST_LEDGER": str(place.path / "ledger"),
                "HOME": "/tmp",
                **(env or {}),
            },
        )
        self.process.wait_ready(lambda: client.smembers("processes") - before, 30)
        client.close()

    def stop(self) -> None:
        self.process.stop(10)
