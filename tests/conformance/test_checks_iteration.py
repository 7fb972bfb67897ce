"""Checks 13, 66 and 67: iterable jobs, since Sidekiq 7.3."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

THIRTY_DAYS = 2_592_000


@pytest.fixture(scope="module", autouse=True)
def _has_iterable_jobs(sidekiq: tuple[int, ...]) -> None:
    if sidekiq < (7, 3):
        pytest.skip("iterable jobs came with Sidekiq 7.3")


@dataclass(frozen=True)
class Interrupted:
    """What a stopping worker left of a job of 200 steps; another job was waiting in the queue."""

    jid: str
    counters: tuple[int, int]
    queue: list[str]
    state: dict[bytes, bytes]
    ttl: int


@pytest.fixture(scope="module")
def interrupted(shared_stage: Stage, _has_iterable_jobs: None) -> Interrupted:
    stage = shared_stage
    stage.reset()
    worker = stage.make_worker("-Q", "own", concurrency=1, name="interrupting")
    jid = stage.push_job({"class": "StepsJob", "args": [200, 0.05], "queue": "own", "retry": True}, "own")
    try:
        stage.ledger.wait_for("step", jid)
        stage.push_raw(b'{"class":"EchoJob","jid":"waits","queue":"own"}', "own")
        assert worker.terminate() == 0
    finally:
        worker.process.kill()
    key = f"it-{jid}"
    return Interrupted(
        jid,
        stage.counters(),
        [json.loads(payload)["jid"] for payload in reversed(stage.redis.lrange("queue:own", 0, -1))],
        stage.redis.hgetall(key),
        stage.redis.ttl(key),
    )


def test_check_13_an_interruption_counts_as_processed_and_failed(interrupted: Interrupted) -> None:
    assert interrupted.counters == (1, 1)


def test_check_66_an_interrupted_job_goes_behind_the_queue_and_resumes(
    shared_stage: Stage, interrupted: Interrupted
) -> None:
    stage, jid = shared_stage, interrupted.jid
    assert interrupted.queue == ["waits", jid]
    assert {b"ex", b"c", b"rt"} <= set(interrupted.state)
    assert interrupted.state[b"ex"] == b"1"
    assert 0 < interrupted.ttl <= THIRTY_DAYS

    worker = stage.make_worker("-Q", "own", concurrency=1, name="resuming")
    try:
        stage.ledger.wait_for("done", jid, seconds=25)
    finally:
        worker.stop()

    steps = [line["args"][0] for line in stage.ledger.lines if line["event"] == "step"]
    assert steps == list(range(1, 201))
    assert not stage.redis.exists(f"it-{jid}")


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
