"""The place of one measurement: a private Redis and a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from benchmarks.processes import free_port, running, wait_until


@dataclass(frozen=True)
class Site:
    """``folder`` has a short name (it holds Unix sockets), the same for every Ruby."""

    server: Any
    url: str
    redis_pid: int
    folder: Path

    @property
    def probe_file(self) -> Path:
        """The file to which probe jobs write their time to start: one line of nanoseconds each."""
        return self.folder / "probes"

    def probes(self) -> list[int]:
        """Nanoseconds from push to start of every probe that has run."""
        return [int(line) for line in self.probe_file.read_text().split("\n")[:-1]]


@contextmanager
def new_site() -> Iterator[Site]:
    """A Redis that keeps nothing, on TCP as everybody's; gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="bb-", dir="/tmp"))
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    try:
        with running([*command, "--dir", str(folder)], {}, folder / "redis.log") as process:
            server = redis.Redis(port=port)
            wait_until(lambda: _answers(server), 10, "Redis")
            site = Site(server, f"redis://127.0.0.1:{port}/0", process.pid, folder)
            site.probe_file.touch()
            try:
                yield site
            finally:
                server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(server: redis.Redis) -> bool:
    try:
        return bool(server.ping())
    except redis.ConnectionError:
        return False
