"""A pid that billiard has waited for may be a stranger's. A deadline, or the worker's end, killed it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.concurrency.prefork import PreforkPool
from bridge.execution.pool_processes import is_running, signal_running
from bridge.execution.request import SidekiqRequest


@pytest.fixture
def stranger() -> Iterator[int]:
    """The pid of a process that is not this one's child."""
    parent = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    yield int(parent.stdout.readline())
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen(["sleep", "60"])
    yield made
    made.kill()
    made.wait()


def pool_of(pid: int) -> Any:
    return SimpleNamespace(_pool=SimpleNamespace(_pool=[SimpleNamespace(pid=pid)]))


def runs(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] not in "ZX"


def test_a_child_that_runs_is_signalled_and_left_for_others_to_wait_for(
    child: subprocess.Popen[bytes],
) -> None:
    assert is_running(child.pid)

    signal_running(child.pid, signal.SIGTERM)

    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_running(child.pid)
    assert child.wait() == -signal.SIGTERM
    assert not is_running(child.pid)


def test_the_end_of_a_pool_ends_its_processes_and_no_stranger(
    child: subprocess.Popen[bytes], stranger: int
) -> None:
    for pid in (stranger, child.pid):
        PreforkPool.end_processes(pool_of(pid))

    assert child.wait() == -signal.SIGTERM
    assert runs(stranger)


def test_a_deadline_ends_the_pool_process_of_its_job_and_no_stranger(
    child: subprocess.Popen[bytes], stranger: int
) -> None:
    for pid in (stranger, child.pid):
        request: Any = SimpleNamespace(_was_signalled=False, worker_pid=pid)
        SidekiqRequest._signal_process(request)
        SidekiqRequest._signal_process(request)

    assert child.wait() in (-signal.SIGUSR1, -signal.SIGKILL)
    assert runs(stranger)
