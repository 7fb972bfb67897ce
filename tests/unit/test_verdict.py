from __future__ import annotations

import dataclasses

import pytest

from bridge.monitoring.health import verdict
from bridge.monitoring.health.verdict import LoopWatch
from bridge.sidecar.breaker import State
from bridge.sidekiq.lease.stall import STALL_SECONDS
from tests.support.snapshot import WELL


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> LoopWatch:
    return LoopWatch(clock)


def still(watch: LoopWatch, clock: Clock, seconds: float, **changes: object) -> float:
    """What the watch says of a worker that it has seen well, so many seconds later."""
    watch.still_seconds(WELL)
    clock.now += seconds
    return watch.still_seconds(dataclasses.replace(WELL, **changes))  # type: ignore[arg-type]


def test_a_loop_that_stands_still_is_found(watch: LoopWatch, clock: Clock) -> None:
    assert still(watch, clock, STALL_SECONDS + 1) == STALL_SECONDS + 1
    assert verdict.not_live_reasons(WELL, STALL_SECONDS) == ["the fetch loop has not turned for 60 s"]
    assert verdict.not_live_reasons(WELL, STALL_SECONDS - 1) == []


@pytest.mark.parametrize(
    "excuse",
    [
        {"turns": 8},
        {"loop_may_rest": True},
        {"redis_steady_seconds": 0.0},
        {"redis_silent_seconds": 70.0},
        {"redis_silent_seconds": None},
    ],
)
def test_a_loop_with_a_good_reason_is_left_alone(
    watch: LoopWatch, clock: Clock, excuse: dict[str, object]
) -> None:
    assert still(watch, clock, 100.0, **excuse) == 0.0


def test_the_time_without_redis_does_not_count_though_nobody_asked_meanwhile(
    watch: LoopWatch, clock: Clock
) -> None:
    """Celery waits for a lost connection outside of the loop: the first probe afterwards failed."""
    assert still(watch, clock, 300.0, redis_steady_seconds=2.0) == 2.0


def test_a_worker_that_is_well_takes_jobs() -> None:
    assert verdict.not_ready_reasons(WELL, 0.0) == []


def test_an_absent_sidecar_hinders_nothing() -> None:
    snapshot = dataclasses.replace(WELL, breaker=State.OPEN, breaker_reason="it is away")
    assert verdict.not_ready_reasons(snapshot, 0.0) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"redis_silent_seconds": 12.0}, "Redis has not answered for 12 s"),
        ({"redis_steady_seconds": 0.0}, "Redis has not answered for 0 s"),
        ({"redis_silent_seconds": None}, "Redis has not answered yet"),
        ({"has_consumer": False}, "no queue is consumed"),
        ({"queues": ()}, "no queue is consumed"),
        ({"rejected": "bad signature"}, "the sidecar refuses this worker: bad signature"),
        ({"quiet": True}, "the worker is quiet"),
        ({"quiet": True, "stopping": True, "has_consumer": False}, "the worker is shutting down"),
    ],
)
def test_each_hindrance_is_named(changes: dict[str, object], reason: str) -> None:
    snapshot = dataclasses.replace(WELL, **changes)  # type: ignore[arg-type]
    assert verdict.not_ready_reasons(snapshot, 0.0) == [reason]
