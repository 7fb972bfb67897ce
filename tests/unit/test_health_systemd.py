"""The service manager's news of a worker, by the worker's snapshot."""

from __future__ import annotations

import dataclasses

import pytest

from bridge.monitoring.health.systemd import Supervision
from bridge.monitoring.health.verdict import LoopWatch
from bridge.settings.systemd import ServiceManager
from bridge.sidecar.breaker import State
from bridge.sidekiq.lease.stall import STALL_SECONDS
from tests.support.snapshot import WELL


class Case:
    """A worker whose snapshot and clock the test sets."""

    def __init__(self) -> None:
        self.snapshot, self.now = WELL, 0.0
        self._said: list[str] = []
        self.supervision = Supervision(
            lambda: self.snapshot, lambda: "idle", self._said.append, None, LoopWatch(lambda: self.now)
        )

    def becomes(self, **changes: object) -> list[str]:
        """One round after these changes; the lines it says."""
        self.snapshot = dataclasses.replace(self.snapshot, **changes)
        self._said.clear()
        self.supervision.round()
        return "\n".join(self._said).splitlines()


@pytest.fixture
def case() -> Case:
    return Case()


def test_a_worker_is_ready_when_it_consumes_and_not_before(case: Case) -> None:
    waiting = case.becomes(redis_silent_seconds=None)
    assert "READY=1" not in waiting
    assert "EXTEND_TIMEOUT_USEC=30000000" in waiting
    assert "READY=1" not in case.becomes(redis_silent_seconds=0.1, has_consumer=False)
    assert case.becomes(has_consumer=True) == ["READY=1", "STATUS=idle", "WATCHDOG=1"]
    assert case.becomes() == ["WATCHDOG=1"]


def test_an_outage_of_others_is_no_reason_to_be_killed(case: Case) -> None:
    case.becomes()
    case.now = 10 * STALL_SECONDS
    # What the fetch loop waits for is Redis, and a sidecar that is away stops nothing.
    said = case.becomes(redis_silent_seconds=600.0, redis_steady_seconds=0.0, breaker=State.OPEN)
    assert "WATCHDOG=1" in said


def test_a_fetch_loop_that_stands_still_gives_no_sign_of_life(case: Case) -> None:
    case.becomes()
    case.now = STALL_SECONDS - 1
    assert "WATCHDOG=1" in case.becomes()
    case.now = STALL_SECONDS + 1
    assert case.becomes() == ["STATUS=the fetch loop has not turned for 61 s"]
    assert case.becomes(turns=2) == ["STATUS=idle", "WATCHDOG=1"]


def test_the_end_is_said_once(case: Case) -> None:
    case.becomes()
    assert "STOPPING=1" in case.becomes(stopping=True)
    assert case.becomes() == ["WATCHDOG=1"]


def test_what_a_manager_left_in_the_environment_is_taken_out_of_it() -> None:
    environ = {"NOTIFY_SOCKET": "@/org/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "HOME": "/"}
    assert ServiceManager.take(environ, 7) == ServiceManager("\0/org/x", 30.0)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": ""}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, None),
        ({"NOTIFY_SOCKET": "/run/n"}, ServiceManager("/run/n", None)),
        (
            {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"},
            ServiceManager("/run/n", None),
        ),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "0"}, ServiceManager("/run/n", None)),
    ],
)
def test_only_a_manager_that_means_this_process_is_told(
    environ: dict[str, str], expected: ServiceManager | None
) -> None:
    assert ServiceManager.take(environ, 7) == expected
