"""``rate_limit`` of a native task: what waits for its time takes no slot, and is given back by every end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.test_pool_options import celery
from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

MakeWorker = Callable[..., WorkerProcess]
POOLS = ["default", "threads", "prefork", "gevent", "solo"]
MODULE = "tests.support.end_tasks"


@pytest.fixture
def make_worker(shared_stage: Stage) -> Iterator[MakeWorker]:
    shared_stage.reset()
    made: list[WorkerProcess] = []

    def make(pool: str, **options: Any) -> WorkerProcess:
        flags = () if pool == "default" else ("-P", pool)
        options = {"name": "limited", "concurrency": 2, "module": MODULE, **options}
        made.append(shared_stage.make_worker("-Q", "limited", *flags, **options))
        return made[-1]

    yield make
    for worker in made:
        worker.process.kill()


def push(stage: Stage, name: str, count: int) -> list[bytes]:
    for number in range(count):
        stage.push_job({"class": name, "args": [number]}, "limited")
    return stage.redis.lrange("queue:limited", 0, -1)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
@pytest.mark.parametrize("pool", POOLS)
def test_limited_jobs_take_no_slot_and_are_given_back_by_each_end(
    make_worker: MakeWorker, shared_stage: Stage, pool: str, end: signal.Signals
) -> None:
    """They filled all slots. At TERM they stayed in flight, and the next worker counted them as poison."""
    stage = shared_stage
    # Given ten jobs of which one may run in an hour, and others behind them in the same queue
    payloads = push(stage, "NativeLimitedJob", 10)
    push(stage, "NativeEchoJob", 4)
    worker = make_worker(pool)
    identity = worker.identity

    # Then the others are done at once, and so is the first of the ten
    wait_until_equal(lambda: stage.ledger.count("done"), 5, "jobs done")
    assert census.inflight(stage.redis)

    # When the worker ends, the nine are back in their order, and nothing was counted
    worker.process.signal(end)
    if end == signal.SIGHUP:  # it starts again in the same process
        wait_for(lambda: worker.identity not in ("", identity), "the new worker")
        wait_until_equal(lambda: stage.ledger.count("done"), 6, "jobs done")
        worker.process.signal(signal.SIGTERM)
        payloads.pop()
    assert worker.process.wait(10) == 0
    assert stage.redis.lrange("queue:limited", 0, -1) == payloads[:-1]
    assert stage.counters()[1] == 0
    assert not census.inflight(stage.redis)
    assert not list(stage.redis.scan_iter("bridge:recovered:*")) + list(
        stage.redis.scan_iter("bridge:unbegun:*")
    )


def test_a_job_that_never_began_is_never_counted_towards_poison(
    make_worker: MakeWorker, shared_stage: Stage
) -> None:
    """Two of them were buried as Bridge::PoisonPill, over four clean restarts."""
    stage = shared_stage
    push(stage, "NativeLimitedJob", 3)
    for times in range(1, 4):
        worker = make_worker("default", name=f"doomed-{times}", env={"BRIDGE_LEASE_SECONDS": "3"})
        wait_until_equal(lambda: stage.ledger.count("done"), times, "jobs done")
        if times > 2:
            break
        wait_for(
            lambda: len(census.inflight(stage.redis)) and not stage.redis.llen("queue:limited"), "the claim"
        )
        worker.process.kill()
    assert not list(stage.redis.scan_iter("bridge:recovered:*"))
    assert not stage.redis.exists("dead")


def test_a_control_command_that_lifts_the_limit_lets_the_jobs_run(
    make_worker: MakeWorker, shared_stage: Stage
) -> None:
    """Celery kept the old bucket: its jobs went on at the old rate."""
    stage = shared_stage
    push(stage, "NativeLimitedJob", 5)
    worker = make_worker("default")
    wait_until_equal(lambda: stage.ledger.count("done"), 1, "jobs done")
    holds_for(lambda: stage.ledger.count("done") == 1, 1, "one job in an hour")

    assert (
        "new rate limit set"
        in celery(stage, "control", "rate_limit", "NativeLimitedJob", "100/s", module=MODULE).stdout
    )

    wait_until_equal(lambda: stage.ledger.count("done"), 5, "jobs done")
    assert worker.terminate() == 0


def test_a_limited_job_that_waits_can_be_revoked(make_worker: MakeWorker, shared_stage: Stage) -> None:
    stage = shared_stage
    push(stage, "NativeLimitedJob", 1)
    jid = stage.push_job({"class": "NativeLimitedJob", "args": [], "retry": False}, "limited")
    make_worker("default")
    wait_until_equal(lambda: stage.ledger.count("done"), 1, "jobs done")

    celery(stage, "control", "revoke", jid, module=MODULE)

    wait_for(lambda: not census.inflight(stage.redis), "the job to go")
    assert not stage.redis.exists("queue:limited")
    assert "done" not in stage.ledger.events(jid)


@pytest.mark.parametrize("pool", POOLS)
def test_a_limited_job_runs_when_its_time_has_come(
    make_worker: MakeWorker, shared_stage: Stage, pool: str
) -> None:
    """Also while the slots are full of other work: its turn is kept for it."""
    stage = shared_stage
    push(stage, "NativeBriskJob", 20)
    push(stage, "NativeEchoJob", 100)
    make_worker(pool)
    wait_until_equal(lambda: stage.ledger.count("done"), 120, "jobs done")
    at = [line["at"] for line in stage.ledger.lines if line["class"] == "NativeBriskJob"]
    assert at[-1] - at[0] > 19 / 20 * 0.9
    stage.wait_counters(120, 0)
