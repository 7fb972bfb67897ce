"""Every pool runs Ruby and native jobs, retries them, buries them, and ends in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal


@pytest.fixture(params=["default", "threads", "prefork", "gevent", "solo"])
def pooled(request: pytest.FixtureRequest, shared_stage: Stage) -> Iterator[Stage]:
    """The shared sidecar with a worker of one pool, on queues of its own."""
    stage = shared_stage
    stage.reset()
    flags = () if request.param == "default" else ("-P", request.param)
    worker = stage.make_worker("-Q", "pool", *flags, concurrency=3, name=f"pool-{request.param}")
    stage.pooled = worker  # type: ignore[attr-defined]
    yield stage
    worker.stop()


def test_a_pool_runs_retries_buries_and_ends(pooled: Stage) -> None:
    stage, worker = pooled, pooled.pooled  # type: ignore[attr-defined]

    # Given jobs of both kinds, the worker runs them
    done = [stage.ruby.push(name, 1, queue="pool") for name in ("EchoJob", "NativeEchoJob")]
    for jid in done:
        stage.ledger.wait_for("done", jid)

    # and a failure of either kind waits in `retry`, as Sidekiq writes it
    failed = {stage.ruby.push(name, queue="pool"): name for name in ("FailJob", "NativeFailJob")}
    wait_until_equal(lambda: stage.redis.zcard("retry"), 2, "entries in retry")
    entries = {entry["jid"]: entry["item"] for entry in stage.ruby.set("retry")}
    assert {entries[jid]["class"] for jid in failed} == set(failed.values())
    assert {entries[jid]["retry_count"] for jid in failed} == {0}

    # When it is due it runs again
    stage.make_due("retry")
    wait_for(
        lambda: {entry["item"].get("retry_count") for entry in stage.ruby.set("retry")} == {1},
        "second failures",
    )

    # and one without attempts is dead
    for name in ("FailJob", "NativeFailJob"):
        stage.ruby.push(name, queue="pool", retry=0)
    wait_until_equal(lambda: stage.redis.zcard("dead"), 2, "entries in dead")
    stage.wait_counters(8, 6)

    # When it is told to end while idle, it ends at once, with status 0 and no key left
    identity = worker.identity
    assert worker.terminate() == 0
    assert not stage.redis.exists(f"bridge:inflight:{identity}", f"{identity}:work", identity)
    assert identity.encode() not in stage.redis.smembers("processes")
    census.assert_each_in_one_place(stage.redis)
    census.assert_keys_clean(stage.redis)


def test_a_pool_gives_back_what_does_not_end_in_time(pooled: Stage) -> None:
    stage, worker = pooled, pooled.pooled  # type: ignore[attr-defined]
    payload = b'{"class":"GateJob","args":["never"],"jid":"held","queue":"pool"}'
    stage.push_raw(payload, "pool")
    stage.ledger.wait_for("started", "held")

    assert worker.terminate() == 0

    assert stage.redis.lrange("queue:pool", 0, -1) == [payload]
    assert not census.inflight(stage.redis)
    assert stage.counters() == (0, 0)
