"""Checks 13, 66 and 67: iterable jobs, since Sidekiq 7.3."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

THIRTY_DAYS = 2_592_000


@pytest.fixture(autouse=True)
def _has_iterable_jobs(sidekiq: tuple[int, ...]) -> None:
    if sidekiq < (7, 3):
        pytest.skip("iterable jobs came with Sidekiq 7.3")


@pytest.fixture
def interrupted(stage: Stage, disposable_worker: WorkerProcess) -> str:
    """jid of a job of 80 steps that a stopping worker interrupted on its way; another job waits."""
    jid = stage.push_job({"class": "StepsJob", "args": [80, 0.05], "queue": "own", "retry": True}, "own")
    wait_for(lambda: stage.ledger.count("step", jid), "the first step")
    disposable_worker.process.signal(signal.SIGTSTP)
    wait_for(lambda: stage.redis.hget(disposable_worker.identity, "quiet") == b"true", "quiet", 8)
    stage.push_raw(b'{"class":"EchoJob","jid":"waits","queue":"own"}', "own")
    assert disposable_worker.terminate() == 0
    return jid


def test_check_13_an_interruption_counts_as_processed_and_failed(stage: Stage, interrupted: str) -> None:
    stage.wait_counters(1, 1)


def test_check_66_an_interrupted_job_goes_behind_the_queue_and_resumes(
    stage: Stage, interrupted: str
) -> None:
    runs_next, runs_last = reversed(stage.redis.lrange("queue:own", 0, -1))
    assert json.loads(runs_next)["jid"] == "waits"
    assert json.loads(runs_last)["jid"] == interrupted
    state = stage.redis.hgetall(f"it-{interrupted}")
    assert {b"ex", b"c", b"rt"} <= set(state)
    assert state[b"ex"] == b"1"
    assert 0 < stage.redis.ttl(f"it-{interrupted}") <= THIRTY_DAYS

    worker = stage.make_worker("-Q", "own", concurrency=1, name="resuming")
    try:
        stage.ledger.wait_for("done", interrupted)
    finally:
        worker.stop()

    steps = [line["args"][0] for line in stage.ledger.lines if line["event"] == "step"]
    assert steps == list(range(1, 81))
    assert not stage.redis.exists(f"it-{interrupted}")


def test_check_67_a_cancelled_job_stops_and_is_done(stage: Stage, sidekiq: tuple[int, ...]) -> None:
    if sidekiq < (7, 3, 3):
        pytest.skip("cancelling came with Sidekiq 7.3.3")
    jid = stage.push_job({"class": "StepsJob", "args": [6, 0, "cancel"], "queue": "default", "retry": True})
    wait_for(lambda: stage.ledger.events(jid).count("step") == 3, "three steps")

    stage.ruby.call("cancel", jid=jid)
    time.sleep(5.2)  # the job looks every five seconds of its run
    stage.ledger.open_gate("cancel")

    wait_until_equal(stage.counters, (1, 0), "processed and failed", 20)
    assert stage.ledger.count("step", jid) < 6
    assert stage.ledger.count("cancelled", jid) == 1
    wait_for(lambda: not stage.redis.exists(f"it-{jid}"), "the iteration's key to go")
    assert stage.redis.zcard("retry") == 0
