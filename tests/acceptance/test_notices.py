"""Ruby hears of every death, whatever is away or dies in between."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

APP = ROOT / "tests/support/ruby/told_jobs.rb"


@pytest.fixture
def stage(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=12, jobs=APP) as made:
        yield made


def die_slowly(stage: Stage) -> str:
    """A native job that dies, and whose death handlers wait for the test."""
    job = {"class": "NativeFailJob", "args": [], "retry": 0, "slow_death": "handler"}
    return stage.push_job({**job, "bid": "b1", "queue": "default"})


def wait_told(stage: Stage) -> None:
    wait_until_equal(lambda: stage.redis.exists("bridge:notices", "bridge:telling"), 0, "notices", seconds=30)


def let_others_tell(stage: Stage) -> None:
    """The minute is over for which the notices belong to the worker that died."""
    for name, value in stage.redis.hgetall("bridge:telling").items():
        stage.redis.hset("bridge:telling", name, b"0 " + value.partition(b" ")[2])


def test_deaths_wait_for_a_sidecar_that_is_away(stage: Stage) -> None:
    stage.start_worker()
    jids = [stage.push_job({"class": "NativeFailJob", "args": [], "retry": 0}) for _ in range(30)]
    wait_until_equal(lambda: stage.redis.zcard("dead"), 30, "dead jobs")
    assert stage.redis.llen("bridge:notices") == 30

    stage.start_sidecar()

    for jid in jids:
        stage.ledger.wait_for("died", jid, seconds=30)
    wait_told(stage)
    assert [stage.ledger.count("died", jid) for jid in jids] == [1] * 30


def fail_once(stage: Stage) -> None:
    before = stage.redis.zcard("retry")
    stage.push_job({"class": "NativeFailJob", "args": [], "retry": 5})
    wait_until_equal(lambda: stage.redis.zcard("retry"), before + 1, "jobs that wait for their retry")


def test_failures_are_noted_for_an_app_that_is_known_to_have_error_handlers(stage: Stage) -> None:
    """A worker stored a notice of each failure, and no sidecar had said that error handlers exist."""
    worker = stage.start_worker()
    fail_once(stage)
    assert not stage.redis.exists("bridge:notices")

    sidecar = stage.start_sidecar()
    wait_for(lambda: stage.redis.exists("bridge:error-handlers"), "the sidecar's answer", 30)
    sidecar.stop()
    worker.stop()

    stage.start_worker()
    fail_once(stage)
    assert stage.redis.llen("bridge:notices") == 1


def test_a_worker_that_is_killed_while_it_tells_leaves_the_notice_to_another(stage: Stage) -> None:
    stage.start_sidecar()
    first = stage.make_worker(name="first")
    jid = die_slowly(stage)
    stage.ledger.wait_for("dying", jid)

    first.process.signal(signal.SIGKILL)
    first.process.wait(10)
    assert stage.redis.llen("bridge:notices") == 1
    let_others_tell(stage)
    stage.start_worker()
    stage.ledger.open_gate("handler")

    wait_told(stage)
    # The same Puma worker was asked, and knew that its handlers run.
    assert stage.ledger.count("dying", jid) == 1
    assert stage.redis.hget("BID-b1", "dead") == b"1"


def test_a_sidecar_that_is_killed_while_its_handlers_run_is_not_the_end_of_it(stage: Stage) -> None:
    sidecar = stage.start_sidecar()
    stage.start_worker()
    jid = die_slowly(stage)
    stage.ledger.wait_for("dying", jid)

    sidecar.process.signal(signal.SIGKILL)
    sidecar.process.wait(10)
    assert stage.redis.llen("bridge:notices") == 1
    stage.ledger.open_gate("handler")
    sidecar.start()

    wait_told(stage)
    assert stage.ledger.count("dying", jid) == 2


def test_a_job_that_is_killed_by_an_operator_is_told_by_a_worker_that_sleeps(stage: Stage) -> None:
    """No worker polls for it: the next beat sees it."""
    stage.start_sidecar()
    stage.start_worker()
    stage.redis.lpush(
        "bridge:notices",
        b'{"id":"waiting/1","death":"killed","error":{"class":"RuntimeError",'
        b'"message":"Job killed by API"}}\n{"class":"EchoJob","jid":"k","args":[],"bid":"b1"}',
    )

    wait_for(lambda: stage.redis.hget("BID-b1", "dead") == b"1", "the death handlers", 8)
    wait_told(stage)


def test_a_worker_without_a_sidecar_writes_no_notice(stage: Stage) -> None:
    """It would wait in Redis without end."""
    worker = WorkerProcess(
        stage.directory, stage.redis_url, None, env={"TEST_LEDGER_HOST": str(stage.ledger.path)}
    )
    try:
        stage.push_job({"class": "NativeFailJob", "args": [], "retry": 0})
        wait_until_equal(lambda: stage.redis.zcard("dead"), 1, "dead jobs")
        assert not stage.redis.exists("bridge:notices")
        assert "bridge-notices" not in worker.log
    finally:
        worker.stop()


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo", "gevent"])
def test_deaths_under_every_pool_are_told(stage: Stage, pool: str) -> None:
    """The decision about a job travels from a pool process to the worker's parent, and its notice with it."""
    stage.start_sidecar()
    stage.start_worker("-P", pool, concurrency=1 if pool == "solo" else 2)
    jid = stage.push_job({"class": "NativeFailJob", "args": ["no luck"], "retry": 0, "bid": "b1"})
    stage.ledger.wait_for("error", jid, seconds=30)
    assert [event for event in stage.ledger.events(jid) if event != "failed"] == [
        "exhausted",
        "died",
        "error",
    ]
    wait_told(stage)
