"""Jobs that expire (``expires_in``, ``expiry``): the bridge ran them, hours after they made sense."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for

APP = ROOT / "tests/support/ruby/told_jobs.rb"
GONE = {"expiry": 1_600_000_000.5}
CLASSES = ("EchoJob", "NativeEchoJob")


@pytest.fixture(scope="module", params=["hybrid", "threads", "prefork"])
def pool_stage(
    request: pytest.FixtureRequest, redis_server: RedisServer, ruby_root: RubyRoot
) -> Iterator[Stage]:
    pool = () if request.param == "hybrid" else ("-P", request.param)
    with Stage(redis_server, ruby_root, database=10, jobs=APP) as stage:
        stage.start_sidecar()
        stage.start_worker(*pool)
        yield stage


@pytest.fixture
def stage(pool_stage: Stage) -> Stage:
    pool_stage.reset()
    return pool_stage


def push(stage: Stage, **fields: Any) -> list[str]:
    return [stage.push_job({"class": name, "args": [], **fields}) for name in CLASSES]


def test_an_expired_job_is_not_run_on_either_side_and_no_handler_hears_of_it(stage: Stage) -> None:
    expired = push(stage, **GONE)
    lasting = push(stage, expiry=time.time() + 600)

    for jid in lasting:
        stage.ledger.wait_for("done", jid)
    stage.wait_counters(4, 0)

    assert [stage.ledger.events(jid) for jid in expired] == [[], []]
    assert [stage.redis.zcard(name) for name in ("retry", "dead", "schedule")] == [0, 0, 0]
    assert stage.worker is not None
    for jid, name in zip(expired, CLASSES, strict=True):
        assert f"expired: jid={jid} of {name} is not run" in stage.worker.log


def test_a_job_that_waited_too_long_in_its_queue_expires(stage: Stage) -> None:
    now = time.time()
    late = push(stage, expires_in=60, created_at=now - 70, enqueued_at=now - 61)
    early = push(stage, expires_in=60, created_at=now - 70, enqueued_at=now - 59)

    for jid in early:
        stage.ledger.wait_for("done", jid)
    stage.wait_counters(4, 0)

    assert [stage.ledger.events(jid) for jid in late] == [[], []]


def test_an_expired_retry_is_not_tried_again(stage: Stage) -> None:
    jid = stage.push_job({
        "class": "NativeFailJob", "args": [], "retry": True, "expiry": time.time() + 1.0,
    })  # fmt: skip
    stage.ledger.wait_for("failed", jid)
    wait_for(lambda: stage.redis.zcard("retry"), "the retry")

    wait_for(lambda: stage.only("retry")["expiry"] < time.time(), "its moment")
    stage.make_due("retry")
    stage.wait_counters(2, 1)

    assert stage.ledger.count("failed", jid) == 1
    assert stage.redis.zcard("dead") == 0


def test_odd_values_expire_nothing(stage: Stage) -> None:
    for odd in ("soon", True, [], {"a": 1}, None, -1, 0):
        jids = push(stage, expires_in=odd, created_at=1.5, enqueued_at=1.5)
        for jid in jids:
            stage.ledger.wait_for("done", jid)
