"""Whatever ends a job or its worker: the result hash says the truth, once and for each who waits."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import Any

import pytest

from bridge import errors
from bridge.results.store import ResultStore
from tests.acceptance.test_results import client, push, record
from tests.support.command import Bridge
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

TASKS = "tests.support.tracked_tasks"
SECONDS = 30


def status(stage: Stage, jid: str) -> str | None:
    return record(stage, jid).get("status")


def kill(worker: Any) -> None:
    worker.process.signal(signal.SIGKILL)
    worker.process.wait(10)


def test_a_worker_that_is_killed_leaves_no_false_end(bare_stage: Stage) -> None:
    """Given kill -9 in the middle of a run: running, then queued or running elsewhere, then done."""
    stage = bare_stage
    first = stage.start_worker(module=TASKS, env={"BRIDGE_LEASE_SECONDS": "3"})
    jid = push(stage, "SteppingJob", 2, "killed")
    stage.ledger.wait_for("told", jid)
    kill(first)
    assert record(stage, jid)["at"] == "1"
    assert status(stage, jid) == "running"
    stage.start_worker(module=TASKS, env={"BRIDGE_LEASE_SECONDS": "3"})
    stage.ledger.wait_for("told", jid, times=2, seconds=SECONDS)
    stage.ledger.open_gate("killed")
    assert client(stage).AsyncResult(jid).get(timeout=SECONDS) == 2
    assert stage.counters() == (1, 0)


def test_a_poison_pill_is_dead_for_who_waits(bare_stage: Stage) -> None:
    stage = bare_stage
    env = {"BRIDGE_LEASE_SECONDS": "3", "BRIDGE_POISON_PILL_LIMIT": "1"}
    first = stage.start_worker(module=TASKS, env=env)
    jid = push(stage, "SteppingJob", 1, "poison")
    stage.ledger.wait_for("told", jid)
    kill(first)
    stage.start_worker(module=TASKS, env=env)
    with pytest.raises(errors.JobFailed, match="had died") as raised:
        client(stage).AsyncResult(jid).get(timeout=SECONDS)
    assert raised.type.__name__ == "Bridge::PoisonPill"
    assert status(stage, jid) == "dead"


def test_a_worker_that_stops_gives_the_job_back(bare_stage: Stage) -> None:
    stage = bare_stage
    worker = stage.start_worker(module=TASKS, env={"BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": "0"})
    jid = push(stage, "SteppingJob", 1, "stopped")
    stage.ledger.wait_for("told", jid)
    worker.process.signal(signal.SIGTERM)
    worker.process.wait(20)
    assert status(stage, jid) == "queued"


@pytest.fixture
def one(bare_stage: Stage) -> Stage:
    bare_stage.start_worker(module=TASKS)
    return bare_stage


def test_a_time_limit_is_an_end(one: Stage) -> None:
    jid = push(one, "SleepJob", 60, retry=False, time_limit=1)
    with pytest.raises(errors.JobFailed) as raised:
        client(one).AsyncResult(jid).get(timeout=SECONDS)
    assert raised.type.__name__ == "Bridge::DeadlineExceeded"


def test_an_expired_job_is_dead(one: Stage) -> None:
    jid = push(one, "AddJob", 1, 2, created_at=time.time() - 100, expires_in=10)
    with pytest.raises(errors.JobFailed, match="expired") as raised:
        client(one).AsyncResult(jid).get(timeout=SECONDS)
    assert raised.type.__name__ == "Bridge::Expired"


def test_jobs_kill_is_an_end(bare_stage: Stage) -> None:
    """Given a job that waits and is killed by a person: who waits for it gets an error."""
    stage = bare_stage
    app = client(stage)
    result = app.send_task("AddJob", args=[1, 2], countdown=3600, ignore_result=False)
    bridge = Bridge({"BRIDGE_REDIS_URL": stage.redis_url, "BRIDGE_SIDEKIQ_VERSION": stage.ruby.version})
    bridge("jobs", "kill", "schedule", result.id, "--yes").well()
    with pytest.raises(RuntimeError, match="Job killed by API"):
        result.get(timeout=SECONDS)


def test_a_settlement_that_redis_refuses_for_a_while_is_written_later(one: Stage) -> None:
    """Given a Redis that is frozen when the job ends, then the end arrives with the settlement."""
    jid = push(one, "SteppingJob", 1, "frozen")
    one.ledger.wait_for("told", jid)
    one.redis.execute_command("CLIENT", "PAUSE", 1500, "WRITE")
    one.ledger.open_gate("frozen")
    assert client(one).AsyncResult(jid).get(timeout=SECONDS) == 1
    wait_until_equal(one.counters, (1, 0), "the job to be counted")


def test_a_retry_that_a_person_starts_again_ends_anew(one: Stage) -> None:
    jid = push(one, "FailingJob", "value", "bad")
    with pytest.raises(ValueError, match="bad"):
        client(one).AsyncResult(jid).get(timeout=SECONDS)
    (member,) = one.redis.zrange("dead", 0, -1)
    payload = json.loads(member) | {"class": "AddJob", "args": [1, 2]}
    one.push_raw(json.dumps(payload))
    wait_until_equal(lambda: status(one, jid), "done", "the second life of the job")
    assert client(one).AsyncResult(jid).get(timeout=SECONDS) == 3


def test_the_command_shows_results(one: Stage) -> None:
    jid = push(one, "AddJob", 20, 22)
    bridge = Bridge({"BRIDGE_REDIS_URL": one.redis_url, "BRIDGE_SIDEKIQ_VERSION": one.ruby.version})
    shown = bridge("results", jid, "--wait", "10", "--json").json
    assert (shown["status"], shown["result"], shown["class"], shown["language"]) == (
        "done",
        42,
        "AddJob",
        "python",
    )
    assert "AddJob" in bridge("results").well().out
    assert "42" in bridge("results", jid).well().out
    failed = bridge("results", "0" * 24)
    assert failed.code == 1
    assert "Redis has no result of it" in failed.err


def test_a_lost_connection_does_not_end_the_wait(bare_stage: Stage) -> None:
    """``get`` raised StoreUnavailable when Redis closed its connection, though the job was done later."""
    stage = bare_stage
    stage.start_worker(module=TASKS)
    app = client(stage)
    jid = push(stage, "SteppingJob", 1, "cut")
    stage.ledger.wait_for("told", jid)
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(app.AsyncResult(jid).get(timeout=20)))
    thread.start()
    wait_for(lambda: stage.redis.pubsub_numsub(f"bridge:result:{jid}")[0][1], "the wait to begin")
    stage.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    wait_for(lambda: stage.redis.pubsub_numsub(f"bridge:result:{jid}")[0][1], "the wait to go on")
    stage.ledger.open_gate("cut")
    thread.join(20)
    assert ended == [1]


def test_connections_that_are_cut_again_and_again_do_not_end_the_wait(bare_stage: Stage) -> None:
    """A proxy cuts a silent connection each minute: ``get`` gave up at the sixth cut, and Redis lived."""
    stage = bare_stage
    stage.start_worker(module=TASKS)
    app = client(stage)
    jid = push(stage, "SteppingJob", 1, "cuts")
    stage.ledger.wait_for("told", jid)
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(app.AsyncResult(jid).get(timeout=60)))
    thread.start()
    for _ in range(8):
        wait_for(lambda: stage.redis.pubsub_numsub(f"bridge:result:{jid}")[0][1], "the wait to go on")
        time.sleep(1.1)  # longer than an outage counts
        stage.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    stage.ledger.open_gate("cuts")
    thread.join(20)
    assert ended == [1]


def test_a_redis_that_is_away_when_the_wait_begins_is_waited_for(
    bare_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``get`` raised StoreUnavailable at once where its first command found no Redis."""
    stage = bare_stage
    stage.start_worker(module=TASKS)
    app = client(stage)
    jid = push(stage, "AddJob", 1, 2)
    assert app.AsyncResult(jid).get(timeout=10) == 3
    read, tried = ResultStore.read, list[str]()

    def fails_first(store: ResultStore, jid: str) -> Any:
        tried.append(jid)
        if len(tried) == 1:
            raise errors.StoreUnavailable("away")
        return read(store, jid)

    monkeypatch.setattr(ResultStore, "read", fails_first)
    assert app.AsyncResult(jid).get(timeout=10) == 3
