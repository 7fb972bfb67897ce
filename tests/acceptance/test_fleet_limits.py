"""Limits across the fleet, with real workers."""

from __future__ import annotations

import json
import random
import time

import pytest

from tests.support import census
from tests.support.command import Bridge
from tests.support.limit_fleet import LimitFleet, most_in_a_second
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

CAP = [{"class": "NativeSleepJob", "concurrency": 3}]


def nothing_is_left(fleet: LimitFleet) -> None:
    wait_for(lambda: not census.inflight(fleet.redis), "the settlements")
    for kind in ("places", "reserved", "waiting"):
        assert list(fleet.redis.scan_iter(f"bridge:{kind}:*")) == []
    assert fleet.redis.zcard("bridge:waiting") == 0
    assert fleet.redis.zcard("schedule") == 0


def running_in(fleet: LimitFleet, worker: WorkerProcess) -> int:
    lines = fleet.ledger.lines
    return len([line for line in lines if line["event"] == "started" and line["pid"] == worker.pid])


def test_no_more_jobs_run_at_once_than_the_limit_and_all_are_done(fleet: LimitFleet) -> None:
    for _ in range(2):
        fleet.start(CAP)
    jids = fleet.push("NativeSleepJob", 40, 0.05)
    fleet.wait_done(jids)
    assert fleet.most_at_once() == 3
    assert int(fleet.redis.get("stat:processed") or 0) == 40
    nothing_is_left(fleet)


def test_the_workers_that_live_keep_the_limit_while_others_are_killed(fleet: LimitFleet) -> None:
    for _ in range(3):
        fleet.start(CAP)
    jids = fleet.push("NativeSleepJob", 400, 0.1)
    for _ in range(3):
        before = fleet.done(jids)
        wait_for(lambda before=before: fleet.done(jids) > before + 5, "progress", 30)
        fleet.kill(random.choice(fleet.workers[1:]))
        fleet.start(CAP)
    fleet.wait_done(jids)
    assert fleet.most_at_once() <= 3
    nothing_is_left(fleet)


@pytest.mark.parametrize("pool", ["threads", "prefork", "gevent", "solo"])
def test_each_pool_keeps_the_limit(fleet: LimitFleet, pool: str) -> None:
    for _ in range(2):
        fleet.start(CAP, "-P", pool, concurrency=4)
    jids = fleet.push("NativeSleepJob", 30, 0.05)
    fleet.wait_done(jids)
    assert fleet.most_at_once() <= 3
    nothing_is_left(fleet)


def test_a_rate_is_exact(fleet: LimitFleet) -> None:
    for _ in range(2):
        fleet.start([{"class": "NativeEchoJob", "rate": "10/s"}])
    jids = fleet.push("NativeEchoJob", 50)
    fleet.wait_done(jids)
    starts = fleet.starts()
    assert most_in_a_second(starts) < 12
    assert starts[-1] - starts[0] == pytest.approx(4.9, rel=0.05)
    nothing_is_left(fleet)


def test_each_key_has_its_own_limit(fleet: LimitFleet) -> None:
    limits = [{"class": "NativeSleepJob", "concurrency": 1, "key": "args.0"}]
    for _ in range(2):
        fleet.start(limits)
    jids = fleet.push("NativeSleepJob", 40, lambda number: (number % 4) / 100)
    fleet.wait_done(jids)
    assert fleet.most_at_once(lambda line: line["args"][0]) == 1
    assert fleet.most_at_once() > 1
    nothing_is_left(fleet)


def test_a_key_of_half_a_surrogate_pair_stops_no_job(fleet: LimitFleet) -> None:
    """The worker could not name the line in Redis: each claim with such a job failed, and went back."""
    fleet.start([{"class": "NativeEchoJob", "concurrency": 1, "key": "args.0"}])
    values = ["\ud800", "\ud83dx", "plain", {"\udfff": 1}]
    jids = fleet.push("NativeEchoJob", 20, lambda number: values[number % 4])
    fleet.wait_done(jids, 20)
    nothing_is_left(fleet)


def commands_each_second(fleet: LimitFleet, worker: WorkerProcess) -> float:
    """What Redis is asked in two seconds of this worker's life."""
    before, began = fleet.redis.info("stats")["total_commands_processed"], time.monotonic()
    holds_for(lambda: worker.process.is_alive, 2.0, "the worker lives")
    spent = fleet.redis.info("stats")["total_commands_processed"] - before
    return float(spent / (time.monotonic() - began))


def test_other_classes_do_not_wait_behind_a_class_at_its_limit(fleet: LimitFleet) -> None:
    worker = fleet.start([{"class": "NativeGateJob", "concurrency": 1}])
    held = fleet.push("NativeGateJob", 2000, "shut")
    others = fleet.push("NativeEchoJob", 200)
    fleet.wait_done(others)
    wait_until_equal(lambda: fleet.redis.zcard("bridge:waiting:NativeGateJob:all"), 1999, "the line")
    assert fleet.redis.zcard("schedule") == 1999
    # While they wait they cost nearly nothing
    wait_for(lambda: commands_each_second(fleet, worker) < 20, "fewer than 20 commands a second", 30)
    # And they go on in their order
    fleet.ledger.open_gate("shut")
    wait_for(lambda: fleet.ledger.count("done") > 400, "some to be done", 60)
    began_in_order = [line["jid"] for line in fleet.ledger.lines if line["event"] == "started"]
    assert began_in_order == held[: len(began_in_order)]


def test_a_limit_that_is_raised_or_gone_lets_waiting_jobs_go_on_within_a_second(fleet: LimitFleet) -> None:
    old = fleet.start([{"class": "NativeGateJob", "concurrency": 1}])
    fleet.push("NativeGateJob", 8, "shut")
    wait_until_equal(lambda: fleet.redis.zcard("schedule"), 7, "jobs that wait")
    # When a worker with a higher limit comes, and the old one ends
    new = fleet.start([{"class": "NativeGateJob", "concurrency": 3}])
    assert old.terminate() == 0
    wait_until_equal(lambda: running_in(fleet, new), 3, "jobs that run", 1)
    # When a worker without the limit comes, and the last one that knows it ends
    last = fleet.start([], concurrency=10)
    assert new.terminate() == 0
    wait_until_equal(lambda: running_in(fleet, last), 8, "jobs that run", 1)


def test_a_queue_at_its_limit_is_not_claimed_from(fleet: LimitFleet) -> None:
    fleet.start([{"queue": "slow", "concurrency": 2}], "-Q", "slow,default", concurrency=6)
    fleet.push("NativeGateJob", 20, "shut", queue="slow")
    wait_until_equal(lambda: fleet.ledger.count("started"), 2, "jobs that run")
    others = fleet.push("NativeEchoJob", 20)
    fleet.wait_done(others)
    holds_for(lambda: fleet.redis.llen("queue:slow") == 18, 1.5, "the queue")
    assert fleet.redis.zcard("schedule") == 0
    fleet.ledger.open_gate("all")
    wait_until_equal(lambda: fleet.ledger.count("done"), 40, "jobs done", 15)
    assert fleet.most_at_once() <= 2 + 4
    nothing_is_left(fleet)


def test_a_limit_that_a_job_brings_along_is_kept(fleet: LimitFleet) -> None:
    for _ in range(2):
        fleet.start([])
    jids = fleet.push("NativeSleepJob", 20, 0.05, bridge_limit={"concurrency": 2})
    fleet.wait_done(jids)
    assert fleet.most_at_once() == 2
    nothing_is_left(fleet)


def test_the_last_worker_leaves_no_job_waiting_for_it(fleet: LimitFleet) -> None:
    worker = fleet.start(CAP)
    fleet.push("NativeSleepJob", 20, 0.3)
    wait_for(lambda: fleet.redis.zcard("schedule"), "jobs that wait")
    assert worker.terminate() == 0
    now = time.time()
    assert all(at <= now + 1 for _, at in fleet.redis.zrange("schedule", 0, -1, withscores=True))
    assert list(fleet.redis.scan_iter("bridge:waiting*")) == []
    assert not fleet.redis.exists("bridge:limits")


# -- beside Ruby


def test_ruby_jobs_keep_the_limit_too(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.start_sidecar()
    limits = json.dumps([{"class": "SleepJob", "concurrency": 2}])
    workers = [
        stage.make_worker(name=f"ruby{n}", concurrency=4, env={"BRIDGE_LIMITS": limits}) for n in range(2)
    ]
    try:
        for _ in range(16):
            stage.push_job({"class": "SleepJob", "args": [0.1], "retry": True})
        wait_until_equal(lambda: stage.ledger.count("done"), 16, "jobs done", 30)
        assert stage.ledger.most_at_once() == 2
    finally:
        for worker in workers:
            worker.process.kill()


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_sidekiq_runs_what_waited_when_all_workers_are_gone(bare_stage: Stage, *, killed: bool) -> None:
    stage = bare_stage
    stage.start_sidecar()
    limits = json.dumps([{"class": "SleepJob", "concurrency": 1}])
    worker = stage.make_worker(name="last", concurrency=4, env={"BRIDGE_LIMITS": limits})
    jids = [stage.push_job({"class": "SleepJob", "args": [0.2], "retry": True}) for _ in range(8)]
    wait_for(lambda: stage.redis.zcard("schedule") >= 5, "jobs that wait")
    if killed:
        # Its waiting jobs are due in ten minutes; a person does not wait for that.
        worker.process.kill()
        environment = {"BRIDGE_REDIS_URL": stage.redis_url}
        Bridge(environment)("limits", "--release", "--yes").well()
    else:
        assert worker.terminate() == 0
    stock = StockSidekiq(stage.root, stage.place, stage.redis_url, "-q", "default")
    try:
        ran = lambda: {line["jid"] for line in stage.ledger.lines if line["event"] == "done"}  # noqa: E731
        wait_for(lambda: ran() >= set(jids[1:]), "Sidekiq to run them", 60)
    finally:
        stock.stop()


def test_a_worker_that_does_not_declare_a_limit_frees_the_places_of_one_that_died(fleet: LimitFleet) -> None:
    """The reaper asked only its own limits: the place counted until an audit five minutes later."""
    limited = fleet.start([{"class": "NativeGateJob", "concurrency": 1}])
    jids = fleet.push("NativeGateJob", 1, "shut")
    wait_until_equal(lambda: fleet.redis.zcard("bridge:places:NativeGateJob:all"), 1, "its place")
    fleet.start([])
    fleet.kill(limited)
    fleet.ledger.open_gate("shut")
    fleet.wait_done(jids, 15)
    wait_for(lambda: not fleet.redis.exists("bridge:places:NativeGateJob:all"), "the place to be free", 5)


def test_waiting_jobs_go_on_when_the_last_worker_that_declares_their_limit_is_killed(
    fleet: LimitFleet,
) -> None:
    """They waited ten minutes for their time in schedule: only an end in order released them."""
    limited = fleet.start([{"class": "NativeGateJob", "concurrency": 1}])
    jids = fleet.push("NativeGateJob", 8, "shut")
    wait_until_equal(lambda: fleet.redis.zcard("bridge:waiting:NativeGateJob:all"), 7, "the line")
    fleet.start([], concurrency=10)
    fleet.kill(limited)
    fleet.ledger.open_gate("all")
    fleet.wait_done(jids, 15)
    nothing_is_left(fleet)
