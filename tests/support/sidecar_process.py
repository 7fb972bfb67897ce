"""A real bin/sidecar."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from tests.support.processes import ROOT, Process, ended_unless_ready
from tests.support.ruby_root import RubyRoot, Shared

JOBS = ROOT / "tests/support/ruby/jobs.rb"


class SidecarProcess:
    """bin/sidecar on a Unix socket, ready to take jobs."""

    def __init__(
        self,
        root: RubyRoot,
        place: Shared,
        redis_url: str,
        *,
        require: Path = JOBS,
        threads: int = 10,
        arguments: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        name: str = "sidecar",
    ) -> None:
        self._root, self._place, self.name = root, place, name
        # Short: a Unix socket's path has at most 107 bytes.
        self.socket = place.path / ("s.sock" if name == "sidecar" else f"{name}.sock")
        self.url = f"unix://{self.socket}"
        self._command = root.command(
            "env", "-C", ROOT, "ruby", ROOT / "sidecar/bin/sidecar", "--require", require,
            "--bind", f"unix://{self.socket}", "--threads", str(threads), *arguments,
        )  # fmt: skip
        self._env = {
            "REDIS_URL": redis_url,
            "TEST_LEDGER": str(place.path / "ledger"),
            "HOME": "/tmp",
            **(env or {}),
        }
        self.start()

    def start(self) -> None:
        """Start it, or start it again in the same place."""
        self.process = Process(self.name, self._command, self._place.path, env=self._env)
        with ended_unless_ready(self.process):
            self.process.wait_ready(self.is_ready, 40)

    def is_ready(self) -> bool:
        """Whether it answers 200 to /health/ready."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(2)
                client.connect(str(self.socket))
                client.sendall(b"GET /health/ready HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n")
                return client.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def stop(self) -> None:
        self.process.stop()
