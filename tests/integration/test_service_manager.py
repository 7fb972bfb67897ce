"""A real worker under a service manager: the test stands at the other end of NOTIFY_SOCKET."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.worker import job, push
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for
from tests.support.worker_process import WorkerProcess

WATCHDOG_SECONDS = 1


class Manager:
    """systemd's ear."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def listen(self) -> list[str]:
        """All that was said so far, line by line."""
        while True:
            try:
                self.said += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.said

    def hears(self, line: str, seconds: float = 20.0) -> None:
        wait_for(lambda: line in self.listen(), f"the worker to say {line}", seconds)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture
def worker(own_server: RedisServer, tmp_path: Path, manager: Manager) -> Iterator[WorkerProcess]:
    env = {
        "NOTIFY_SOCKET": str(manager.path),
        "WATCHDOG_USEC": str(WATCHDOG_SECONDS * 1_000_000),
        "TEST_LEDGER_HOST": str(tmp_path / "ledger"),
        "BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": "20",
    }
    worker = WorkerProcess(tmp_path, own_server.url, f"unix://{tmp_path / 's.sock'}", env=env)
    yield worker
    worker.stop()


def test_a_worker_says_when_it_is_ready_that_it_lives_and_when_it_goes(
    worker: WorkerProcess, manager: Manager, own_server: RedisServer
) -> None:
    manager.hears("READY=1")
    wait_for(lambda: manager.listen().count("WATCHDOG=1") >= 3, "three signs of life")
    manager.hears("STATUS=0 of 5 slots busy")
    with own_server.client() as client:
        push(client, "default", job(**{"class": "NativeSleepJob", "args": [4]}))
    manager.hears("STATUS=1 of 5 slots busy")

    worker.process.signal(signal.SIGTERM)
    manager.hears("STOPPING=1")
    manager.hears("STATUS=the worker is shutting down")
    manager.said.clear()
    # Its job still runs: the watchdog must not end it.
    wait_for(lambda: manager.listen().count("WATCHDOG=1") >= 3, "signs of life at the end")
    assert worker.process.wait(20) == 0
    assert "READY=1" not in manager.listen()


def test_a_worker_without_redis_asks_for_time_and_stays_alive(
    worker: WorkerProcess, manager: Manager, own_server: RedisServer, tmp_path: Path
) -> None:
    manager.hears("READY=1")
    own_server.stop()
    wait_for(lambda: any("Redis has not answered" in line for line in manager.listen()), "the reason", 20)
    manager.said.clear()
    wait_for(lambda: manager.listen().count("WATCHDOG=1") >= 3, "signs of life without Redis")


def test_a_worker_whose_processes_are_frozen_gives_no_sign_of_life(
    worker: WorkerProcess, manager: Manager
) -> None:
    manager.hears("READY=1")
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: _silent(manager, 2 * WATCHDOG_SECONDS), "silence", 20)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    manager.hears("WATCHDOG=1")


def _silent(manager: Manager, seconds: float) -> bool:
    manager.said.clear()
    time.sleep(seconds)
    return not manager.listen()


def test_no_child_of_a_worker_can_report_in_its_name(worker: WorkerProcess, manager: Manager) -> None:
    manager.hears("READY=1")
    for child in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split():
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{child}/environ").read_bytes()
