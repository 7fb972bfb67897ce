"""Jobs through the Rails app, whatever happens to a container meanwhile."""

from __future__ import annotations

import pytest

from tests.compose.stack import Stack

pytestmark = pytest.mark.timeout(600)


def test_the_mix_ends_as_expected(stack: Stack) -> None:
    before = stack.enqueue(size=20)
    census = stack.wait_ended(before)
    assert len(census.jobs) > 100
    # Nobody died: every LedgerJob that has run did so once.
    ran = [job for job in census.jobs if job[0] == "LedgerJob" and job[2] == "done"]
    assert census.bookings == len(ran)


@pytest.mark.parametrize("service", ["redis", "web", "flower", "prometheus", "worker-1", "worker-2"])
def test_a_killed_container_loses_nothing(stack: Stack, service: str) -> None:
    before = _kill_in_the_middle(stack, service)
    stack.wait_ended(before)


def test_killed_sidecars_lose_nothing(stack: Stack) -> None:
    """Slow jobs are spread over both: what was running in the one that died runs again."""
    broken_off = 0
    for service in ("sidecar-1", "sidecar-2"):
        before = _kill_in_the_middle(stack, service)
        broken_off += stack.wait_ended(before).broken_off
    assert broken_off > 0


def _kill_in_the_middle(stack: Stack, service: str) -> int:
    stack.wait_healthy()
    (victim,) = (
        c["Name"] for c in stack.containers() if c["Name"].endswith((f"-{service}", f"-{service}-1"))
    )
    before = stack.enqueue_slow(slow_seconds=8)
    assert stack.census(before).inflight > 0
    stack.kill_and_start(victim)
    stack.wait_healthy()
    return before


def test_redis_keeps_its_data(stack: Stack) -> None:
    keys = ("stat:processed", "stat:failed")
    known = {key: stack.redis("get", key) for key in keys}
    known |= {key: stack.redis("zrange", key, "0", "-1") for key in ("dead", "schedule")}
    assert all(known.values())
    (redis,) = stack.containers("redis")
    stack.kill_and_start(redis["Name"])
    stack.wait_healthy()
    assert known == {key: stack.redis("get", key) for key in keys} | {
        key: stack.redis("zrange", key, "0", "-1") for key in ("dead", "schedule")
    }


def test_a_worker_that_is_stopped_leaves_nothing_behind(stack: Stack) -> None:
    before = stack.enqueue()
    stack.compose("stop", "worker")
    assert [worker["State"]["ExitCode"] for worker in stack.containers("worker")] == [0, 0]
    assert stack.census(before).inflight == 0
    stack.compose("start", "worker")
    stack.wait_healthy()
    stack.wait_ended(before)


def test_a_sidecar_that_is_stopped_ends_cleanly(stack: Stack) -> None:
    before = stack.enqueue()
    stack.compose("stop", "sidecar-1")
    (stopped,) = stack.containers("sidecar-1")
    assert stopped["State"]["ExitCode"] == 0
    # The other one goes on alone.
    stack.wait_ended(before)
    stack.compose("start", "sidecar-1")
    stack.wait_healthy()
