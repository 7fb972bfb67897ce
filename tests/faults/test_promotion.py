"""Due jobs of an app whose client middleware locks and halts: several promoters, some of which die."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import SAFE
from tests.faults.report import Report
from tests.faults.rig import RUBY, Rig
from tests.faults.settle import settle
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import new_jid
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for, wait_until_equal

JOBS = RUBY / "locking_jobs.rb"


@pytest.fixture(params=[0.0], ids=["at once"])
def locking(ruby_root: RubyRoot, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """One sidecar whose app locks; the parameter is how many seconds a lock takes. No worker yet."""
    with tempfile.TemporaryDirectory(prefix="sb-lock-") as directory:
        server = RedisServer(Path(directory), *SAFE)
        rig = Rig(server, ruby_root)
        try:
            rig.jobs = JOBS
            rig.add_sidecar("car0", env={"LOCK_SECONDS": str(request.param)})
            yield rig
        finally:
            rig.stop()
            server.stop()


def schedule(rig: Rig, count: int, *, name: str = "schedule", in_seconds: float) -> list[str]:
    """Entries as Sidekiq's client writes them, all due at one moment."""
    due = rig.redis.time()[0] + in_seconds
    jids = [new_jid() for _ in range(count)]
    for jid in jids:
        entry = {
            "class": "SleepJob",
            "args": [0],
            "queue": "default",
            "jid": jid,
            "retry": True,
            "created_at": due,
        }
        rig.redis.zadd(name, {json.dumps(entry): due})
    rig.pushed_path.write_text("".join(f"{jid} sure\n" for jid in jids))
    return jids


def assert_all_done_once(rig: Rig, report: Report, fault: str, jids: list[str]) -> None:
    wait_until_equal(lambda: rig.ledger.count("done"), len(jids), f"{len(jids)} jobs to be done", 60)
    rig.redis.delete(*(rig.redis.keys("lock:*") or ["lock:none"]))
    settle(rig, report, fault, None)


@pytest.mark.short
@pytest.mark.parametrize("name", ["schedule", "retry"])
def test_three_workers_promote_jobs_that_middleware_may_halt_and_lose_none(
    locking: Rig, report: Report, name: str
) -> None:
    for number in range(3):
        locking.add_worker(f"own{number}", concurrency=4)
    jids = schedule(locking, 300, name=name, in_seconds=2)

    assert_all_done_once(
        locking, report, f"300 due entries of {name}, 3 workers, middleware that halts", jids
    )
    assert report.lines[-1].repeated == 0


def test_workers_and_a_ruby_process_promote_side_by_side_and_lose_none(locking: Rig, report: Report) -> None:
    for number in range(2):
        locking.add_worker(f"own{number}", concurrency=4)
    stock = StockSidekiq(
        locking.root, locking.place, locking.redis_url, "-q", "default", "-c", "2", jobs=JOBS
    )
    try:
        jids = schedule(locking, 300, in_seconds=2)
        wait_until_equal(lambda: locking.ledger.count("done"), 300, "all to be done", 60)
    finally:
        stock.stop()  # it counts what it has run at its end
    assert_all_done_once(locking, report, "300 due jobs, 2 workers and Sidekiq, middleware that halts", jids)


@pytest.mark.short
@pytest.mark.parametrize("locking", [0.02], indirect=True, ids=["20 ms each"])
def test_a_worker_killed_between_middleware_and_move_loses_none_of_fifty(
    locking: Rig, report: Report
) -> None:
    """It lost 50 of 50: the next worker's middleware met the locks of the first, and halted them all."""
    first = locking.add_worker("own0", concurrency=2)
    jids = schedule(locking, 50, in_seconds=2)
    wait_for(lambda: len(locking.redis.keys("lock:*")) >= 25, "middleware to have run for half of them", 30)
    locking.kill(first.pid)
    del locking.workers["own0"]
    locking.add_worker("own1", concurrency=2)

    assert_all_done_once(locking, report, "50 due jobs, kill -9 while client middleware runs", jids)


@pytest.mark.parametrize("locking", [0.02], indirect=True, ids=["20 ms each"])
def test_a_worker_told_to_end_while_middleware_runs_leaves_nothing_in_flight(
    locking: Rig, report: Report
) -> None:
    first = locking.add_worker("own0", concurrency=2)
    jids = schedule(locking, 50, in_seconds=2)
    wait_for(lambda: len(locking.redis.keys("lock:*")) >= 10, "middleware to run", 30)
    assert first.terminate() == 0
    del locking.workers["own0"]
    assert not locking.redis.keys("bridge:inflight:*")

    locking.add_worker("own1", concurrency=2)
    assert_all_done_once(locking, report, "50 due jobs, TERM while client middleware runs", jids)


@pytest.mark.parametrize("locking", [0.02], indirect=True, ids=["20 ms each"])
def test_a_worker_frozen_while_middleware_runs_loses_none(locking: Rig, report: Report) -> None:
    first = locking.add_worker("own0", concurrency=2)
    locking.add_worker("own1", concurrency=2)
    keeper = locking.keeper("own0")
    jids = schedule(locking, 50, in_seconds=2)
    wait_for(lambda: len(locking.redis.keys("lock:*")) >= 10, "middleware to run", 30)
    with locking.frozen(keeper), locking.frozen(first.pid):
        wait_for(lambda: not locking.redis.zcard("schedule"), "the others to be promoted", 30)
        wait_until_equal(lambda: locking.ledger.count("done"), 50, "all to be done while it is frozen", 60)

    assert_all_done_once(locking, report, "50 due jobs, SIGSTOP while client middleware runs", jids)


@pytest.mark.parametrize("locking", [0.02], indirect=True, ids=["20 ms each"])
def test_a_sidecar_killed_while_middleware_runs_loses_none(locking: Rig, report: Report) -> None:
    locking.add_worker("own0", concurrency=2)
    jids = schedule(locking, 50, in_seconds=2)
    wait_for(lambda: len(locking.redis.keys("lock:*")) >= 10, "middleware to run", 30)
    locking.may_interrupt_ruby_jobs()
    for pid in locking.puma_workers("car0"):
        locking.kill(pid)

    assert_all_done_once(locking, report, "50 due jobs, the sidecar dies while client middleware runs", jids)
