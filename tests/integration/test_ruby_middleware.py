"""Python code inside the middleware of a Rails app: its gems see each end as that of a Ruby job."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.acceptance.test_limits import celery
from tests.support import census
from tests.support.processes import ROOT
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

JOBS = ROOT / "tests/support/ruby/gem_jobs.rb"
TASKS = "tests.support.ruby_middleware_tasks"
BARE = {"class": "BareJob", "args": [], "queue": "default", "retry": 0}


def start(stage: Stage, *arguments: str, threads: int = 10, module: str = TASKS, **env: str) -> None:
    stage.jobs = JOBS
    stage.start_sidecar(threads=threads)
    stage.start_worker(*arguments, module=module, env=env)


def push(stage: Stage, outcome: str = "done", **more: Any) -> str:
    """A job as the app's own client pushes it: with a lock, in a batch, of a tenant."""
    fields = {"queue": "default", "retry": 1, "apartment": "acme", "bid": "b1", "lock_digest": "d1"}
    stage.redis.set("uniquejobs:d1", "held")
    return stage.push_job({"class": "ReportJob", "args": [outcome], **fields, **more})


def gems(stage: Stage, jid: str) -> dict[str, Any]:
    """What the gems of the app keep about this job."""
    return {
        "locked": stage.redis.exists("uniquejobs:d1") == 1,
        "batch": {k.decode(): int(v) for k, v in stage.redis.hgetall("BID-b1").items()},
        "tenant": [line.decode() for line in stage.redis.lrange("apartment", 0, -1)],
        "status": (stage.redis.hget(f"sidekiq:status:{jid}", "status") or b"").decode(),
        "failures": [json.loads(entry)["exception"] for entry in stage.redis.zrange("failed", 0, -1)],
    }


ONCE = ["enter acme", "leave acme"]


@pytest.mark.parametrize("pool", ["bridge", "threads", "prefork", "gevent", "solo"])
def test_lock_batch_tenant_and_status_are_right_after_each_end(bare_stage: Stage, pool: str) -> None:
    """Given a class in Python, then its gems see it done, retried and dead as they see a class in Ruby."""
    stage = bare_stage
    start(stage, *([] if pool == "bridge" else ["-P", pool]))

    done = push(stage, "done")
    wait_until_equal(stage.counters, (1, 0), "processed and failed")
    assert gems(stage, done) == {
        "locked": False,
        "batch": {"succeeded": 1},
        "tenant": ONCE,
        "status": "complete",
        "failures": [],
    }

    failing = push(stage, "fail")
    retried = stage.only("retry")
    assert (retried["error_class"], retried["error_message"]) == ("ValueError", "failed on purpose")
    assert stage.score("retry") > time.time() + 3500, "sidekiq_retry_in of the Ruby class"
    assert gems(stage, failing) == {
        "locked": True,
        "batch": {"succeeded": 1, "failed": 1},
        "tenant": ONCE * 2,
        "status": "retrying",
        "failures": ["ValueError"],
    }
    assert stage.ledger.events(failing) == ["python", "error"]

    stage.make_due("retry")
    dead = stage.only("dead")
    assert (dead["error_class"], dead["retry_count"]) == ("ValueError", 1)
    assert gems(stage, failing) == {
        "locked": False,
        "batch": {"succeeded": 1, "failed": 2, "dead": 1},
        "tenant": ONCE * 3,
        "status": "failed",
        "failures": ["ValueError"] * 2,
    }
    assert stage.ledger.events(failing) == ["python", "error", "python", "exhausted", "died", "error"]
    stage.wait_counters(3, 2)
    assert stage.ledger.count("ruby") == 0


def test_gems_see_only_the_death_of_a_task_that_is_not_marked(bare_stage: Stage) -> None:
    """Given classes in Python without the mark, then gems miss a done job, and hear of a dead one."""
    stage = bare_stage
    start(stage)
    done = push(stage, **{**BARE, "lock": "until_executed"})
    stage.wait_counters(1, 0)
    unseen = {"locked": True, "batch": {}, "tenant": [], "status": "", "failures": []}
    assert gems(stage, done) == unseen

    dead = push(stage, **{**BARE, "class": "NativeFailJob"})
    wait_until_equal(
        lambda: gems(stage, dead), {**unseen, "locked": False, "batch": {"dead": 1}}, "what gems keep"
    )


def test_a_task_is_named_by_the_setting(bare_stage: Stage) -> None:
    """Given BRIDGE_RUBY_MIDDLEWARE, then a task that says nothing itself passes the middleware."""
    stage = bare_stage
    start(stage, BRIDGE_RUBY_MIDDLEWARE="BareJob")
    jid = stage.push_job({**BARE, "apartment": "acme"})
    stage.wait_counters(1, 0)
    assert stage.ledger.events(jid) == ["python"]
    assert gems(stage, jid)["tenant"] == ONCE


def test_retry_and_ignore_of_the_code_are_heeded(bare_stage: Stage) -> None:
    """Given self.retry(countdown=1800) and Ignore, then Ruby sees a failure and a success."""
    stage = bare_stage
    start(stage)
    push(stage, "retry")
    retried = stage.only("retry")
    assert retried["error_class"] == "LookupError"
    assert 1700 < stage.score("retry") - time.time() < 1810
    ignored = push(stage, "ignore")
    wait_for(lambda: gems(stage, ignored)["status"] == "complete", "the ignored job to be done")
    stage.wait_idle()


def test_a_rejected_job_is_buried_and_its_death_is_told(bare_stage: Stage) -> None:
    """Given Reject(requeue=False), then the middleware unwinds, and death handlers hear of it once."""
    stage = bare_stage
    start(stage)
    jid = push(stage, "reject")
    assert stage.only("dead")["jid"] == jid
    wait_until_equal(lambda: gems(stage, jid)["batch"], {"dead": 1}, "the batch to count the death")
    assert gems(stage, jid)["tenant"] == ONCE
    assert not gems(stage, jid)["locked"]


def test_the_tasks_own_number_of_retries_is_heeded(bare_stage: Stage) -> None:
    """Given an autoretry_for without this error, then Ruby buries the job at once, and its gems know."""
    stage = bare_stage
    start(stage)
    jid = push(stage, **{"class": "PickyJob", "args": [], "retry": 5})
    dead = stage.only("dead")
    assert (dead["error_class"], dead["retry"], dead["retry_count"]) == ("KeyError", 5, 0)
    assert gems(stage, jid)["batch"] == {"failed": 1, "dead": 1}
    assert not gems(stage, jid)["locked"]


@pytest.mark.parametrize("pool", ["bridge", "threads"])
def test_a_coroutine_runs_inside_the_middleware(bare_stage: Stage, pool: str) -> None:
    stage = bare_stage
    start(stage, *([] if pool == "bridge" else ["-P", pool]), module=f"{TASKS[:-5]}coroutines")
    jid = push(stage, "word", **{"class": "AsyncJob"})
    stage.wait_counters(1, 0)
    assert stage.ledger.args(jid, "python") == ["word"]
    assert gems(stage, jid)["tenant"] == ONCE


@pytest.mark.parametrize("pool", ["bridge", "prefork"])
def test_a_revoked_job_ends_in_both_languages(bare_stage: Stage, pool: str) -> None:
    stage = bare_stage
    start(stage, *([] if pool == "bridge" else ["-P", pool]))
    jid = push(stage, "sleep")
    stage.ledger.wait_for("python", jid)
    assert stage.worker is not None
    celery(stage, "control", "revoke", jid)
    wait_until_equal(lambda: gems(stage, jid)["tenant"], ONCE, "the chain to unwind")
    stage.wait_idle()
    assert stage.redis.zcard("retry") == stage.redis.zcard("dead") == 0


@pytest.mark.parametrize("pool", ["bridge", "threads", "prefork"])
def test_a_time_limit_ends_it_as_a_ruby_job(bare_stage: Stage, pool: str) -> None:
    stage = bare_stage
    start(stage, *([] if pool == "bridge" else ["-P", pool]), BRIDGE_TIME_LIMITS="ReportJob:1")
    jid = push(stage, "sleep")
    retried = stage.only("retry")
    assert retried["error_class"] == "Bridge::DeadlineExceeded"
    assert gems(stage, jid)["tenant"] == ONCE
    stage.wait_idle()


def test_a_worker_that_dies_leaves_no_slot_behind(bare_stage: Stage) -> None:
    """Given a killed worker, then its parked run unwinds once the lease is over, and no attempt is spent."""
    stage = bare_stage
    start(stage, threads=1)
    jid = push(stage, "sleep")
    stage.ledger.wait_for("python", jid)
    assert stage.worker is not None
    os.kill(stage.worker.pid, signal.SIGKILL)
    wait_for(lambda: gems(stage, jid)["tenant"] == ONCE, "the chain to unwind", 20)
    assert gems(stage, jid)["locked"], "a job that will run again keeps its lock"
    assert stage.redis.zcard("retry") == stage.redis.zcard("dead") == 0


def test_another_worker_goes_on_where_the_first_one_died(bare_stage: Stage) -> None:
    """Given a second worker, then it runs the code inside the same run of the middleware."""
    stage = bare_stage
    start(stage, threads=1, BRIDGE_LEASE_SECONDS="30")
    jid = push(stage, "sleep")
    stage.ledger.wait_for("python", jid)
    assert stage.worker is not None
    first = stage.worker
    second = stage.make_worker(module=TASKS, name="second", env={"BRIDGE_LEASE_SECONDS": "30"})
    try:
        os.kill(first.pid, signal.SIGKILL)
        stage.ledger.wait_for("python", jid, times=2, seconds=40)
        assert gems(stage, jid)["tenant"] == ["enter acme"]
    finally:
        second.stop()


def test_a_worker_that_stops_gives_the_job_back_and_frees_the_slot(bare_stage: Stage) -> None:
    stage = bare_stage
    start(stage, threads=1)
    jid = push(stage, "sleep")
    stage.ledger.wait_for("python", jid)
    assert stage.worker is not None
    stage.worker.stop()
    assert stage.redis.llen("queue:default") == 1
    wait_for(lambda: gems(stage, jid)["tenant"] == ONCE, "the chain to unwind", 5)
    assert not census.inflight(stage.redis)


def test_without_a_sidecar_it_waits_in_its_queue(bare_stage: Stage) -> None:
    """Given no sidecar, then such a job waits as a Ruby job does, and a native one runs."""
    stage = bare_stage
    stage.start_worker(module=TASKS)
    push(stage)
    bare = stage.push_job(BARE, "high")
    stage.ledger.wait_for("python", bare)
    assert stage.redis.llen("queue:default") == 1


def test_a_sidecar_that_dies_under_the_code_leaves_an_unknown_outcome(bare_stage: Stage) -> None:
    """Given a killed sidecar, then the job runs again once it is back, as a Ruby job does."""
    stage = bare_stage
    start(stage)
    jid = push(stage, "gate")
    stage.ledger.wait_for("python", jid)
    assert stage.sidecar is not None
    os.kill(stage.sidecar.process.pid, signal.SIGKILL)
    stage.sidecar.process.wait(10)
    stage.ledger.open_gate("report")
    stage.sidecar.start()
    stage.ledger.wait_for("python", jid, times=2, seconds=30)
    stage.wait_counters(1, 0)
    assert gems(stage, jid)["status"] == "complete"


def test_a_sidecar_that_drains_waits_for_the_code(bare_stage: Stage) -> None:
    """Given TERM at the sidecar, then the code may end in its time, and the job is done once."""
    stage = bare_stage
    start(stage)
    jid = push(stage, "gate")
    stage.ledger.wait_for("python", jid)
    assert stage.sidecar is not None
    stage.sidecar.process.signal(signal.SIGTERM)
    wait_for(lambda: not stage.sidecar.is_ready(), "the sidecar to drain")  # type: ignore[union-attr]
    stage.ledger.open_gate("report")
    stage.wait_counters(1, 0)
    assert gems(stage, jid)["status"] == "complete"
    assert stage.ledger.events(jid) == ["python"]
    assert stage.sidecar.process.wait(30) == 0


def test_code_that_a_drain_does_not_wait_for_runs_again(bare_stage: Stage) -> None:
    """Given a sidecar without time for running jobs, then Ruby unwinds, and the job runs again later."""
    stage = bare_stage
    stage.jobs = JOBS
    stage.start_sidecar(arguments=("--timeout", "0"))
    stage.start_worker(module=TASKS)
    jid = push(stage, "gate")
    stage.ledger.wait_for("python", jid)
    assert stage.sidecar is not None
    stage.sidecar.process.signal(signal.SIGTERM)
    stage.sidecar.process.wait(30)
    assert gems(stage, jid)["tenant"] == ONCE
    stage.ledger.open_gate("report")
    stage.sidecar.start()
    stage.wait_counters(1, 0)
    assert stage.ledger.events(jid) == ["python", "python"]
    assert gems(stage, jid)["status"] == "complete"
