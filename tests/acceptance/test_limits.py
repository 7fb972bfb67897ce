"""A job ends when its time is up or it is revoked, under every pool; one that does not costs its slot."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.acceptance.test_commands import celery
from tests.support import census
from tests.support.probes import health, samples
from tests.support.processes import Process
from tests.support.stage import Stage, new_jid
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import CELERY, bridge_environment

POOLS = ["default", "threads", "prefork", "gevent", "solo"]
#: One that ends in Python and one that ends in Ruby; both would run for minutes.
LONG = ("NativePatientJob", "SleepJob")


@pytest.fixture(params=POOLS)
def pooled(request: pytest.FixtureRequest, shared_stage: Stage) -> Iterator[Stage]:
    """The shared sidecar with a worker of one pool, on a queue of its own."""
    stage = shared_stage
    stage.reset()
    flags = () if request.param == "default" else ("-P", request.param)
    limits = {"BRIDGE_TIME_LIMITS": "SleepJob:1.5,NoSuchJob:1"}
    shared = stage.worker
    stage.worker = stage.make_worker(
        "-Q", "limited", *flags, concurrency=4, env=limits, name=f"limited-{request.param}"
    )
    stage.pool = request.param  # type: ignore[attr-defined]
    yield stage
    stage.worker.stop()
    stage.worker = shared  # the files that follow use the same stage


@pytest.fixture
def listening(pooled: Stage) -> Iterator[Process]:
    """Who listens to Celery's events, as Flower does."""
    env = bridge_environment(pooled.redis_url, None)
    words = [CELERY, "-A", "bridge", "events", "--dump"]
    process = Process(f"events-{new_jid()}", words, pooled.directory, env=env)
    process.wait_ready(lambda: " heartbeat" in process.log, 40)
    yield process
    process.stop()


def test_a_deadline_ends_a_job_with_the_reason_in_retry_or_dead(pooled: Stage) -> None:
    stage = pooled

    # Given long jobs with a limit in their payload (Python) or in the settings (Ruby)
    for retry in (True, 0):
        stage.ruby.push("NativePatientJob", 300, queue="limited", time_limit=1.5, retry=retry)
        stage.ruby.push("SleepJob", 300, queue="limited", retry=retry)

    # Then each ends as a failure that names the limit, and has spent an attempt
    for place in ("retry", "dead"):
        wait_until_equal(lambda name=place: stage.redis.zcard(name), 2, f"entries in {place}", 60)
        entries = [entry["item"] for entry in stage.ruby.set(place)]
        assert {entry["class"] for entry in entries} == set(LONG)
        assert {entry["error_class"] for entry in entries} == {"Bridge::DeadlineExceeded"}
        assert all("time limit of 1.5 s" in entry["error_message"] for entry in entries), entries
    stage.wait_counters(4, 4)
    assert stage.ledger.count("swallowed") == stage.ledger.count("done") == 0

    # and the slots are free for what comes next
    for name in ("EchoJob", "NativeEchoJob"):
        stage.ledger.wait_for("done", stage.ruby.push(name, queue="limited"))
    census.assert_each_in_one_place(stage.redis)


@pytest.mark.parametrize("job_class", LONG)
def test_revoke_ends_a_running_job_for_good(pooled: Stage, listening: Process, job_class: str) -> None:
    stage = pooled
    if stage.pool == "solo":  # type: ignore[attr-defined]
        pytest.skip("the solo pool answers no command while it runs a job")
    jid = stage.ruby.push(job_class, 300, queue="limited", time_limit=200)
    stage.ledger.wait_for("started", jid)

    celery(stage, "control", "revoke", jid)

    stage.wait_idle(20)
    wait_for(lambda: re.search(f"task revoked.*{jid}", listening.log), "the news for Flower")
    stage.wait_counters(1, 1)
    assert not stage.redis.exists("retry", "dead", "queue:limited")
    assert not stage.ledger.count("done")
    # and a later job of the same jid is not affected
    stage.push_job({"class": "EchoJob", "jid": jid}, "limited")
    stage.ledger.wait_for("done", jid)


def test_a_deadline_that_has_passed_is_a_failure_whatever_becomes_of_the_run(bare_stage: Stage) -> None:
    stage = bare_stage
    sidecar, worker = stage.start_sidecar(), stage.start_worker()

    # Given a Ruby job that does not heed its deadline
    jid = stage.ruby.push("StubbornJob", time_limit=1)
    wait_for(lambda: f"ending jid={jid}" in worker.log, "its end to be asked for")

    # When the sidecar dies with it, so that nobody reports an outcome
    sidecar.process.kill()

    # Then the worker has decided, and an attempt is spent
    entry = stage.only("retry")
    assert entry["error_class"] == "Bridge::DeadlineExceeded"
    assert entry["retry_count"] == 0
    stage.wait_counters(1, 1)
    assert not stage.redis.exists(f"bridge:recovered:{jid}")


@pytest.mark.parametrize("flags", [(), ("-P", "threads")], ids=["default", "threads"])
def test_a_job_that_does_not_end_costs_its_slot_and_too_many_end_the_worker(
    shared_stage: Stage, flags: tuple[str, ...]
) -> None:
    stage = shared_stage
    stage.reset()
    worker = stage.make_worker("-Q", "stuck", *flags, concurrency=4, name=f"stuck-{len(flags)}")
    try:
        # Given a job inside a call that does not return, past its time
        stuck = stage.ruby.push("NativeSleepJob", 600, queue="stuck", time_limit=1)
        wait_until_equal(lambda: health(worker)["slots"].get("lost"), 1, "a lost slot", 30)

        # Then it is in flight still, its slot is no other job's, and the others go on
        assert samples(worker)["bridge_slots_lost"] == 1
        assert health(worker)["slots"]["free"] == 3
        for _ in range(8):
            stage.ledger.wait_for("done", stage.ruby.push("NativeEchoJob", queue="stuck"))
        holds_for(lambda: len(census.inflight(stage.redis)) == 1, 1, "the stuck job stays in flight")
        assert worker.process.is_alive

        # When a second one is more than a quarter, the worker ends and says so
        second = stage.ruby.push("NativeSleepJob", 600, queue="stuck", time_limit=1)
        assert worker.process.wait(40) == 70
        assert "slots are lost" in worker.log

        # and both have failed by their deadline
        entries = {entry["jid"]: entry["item"] for entry in stage.ruby.set("retry")}
        assert set(entries) == {stuck, second}
        assert {entry["error_class"] for entry in entries.values()} == {"Bridge::DeadlineExceeded"}
        wait_for(lambda: not census.inflight(stage.redis), "nothing in flight")
    finally:
        worker.stop()
