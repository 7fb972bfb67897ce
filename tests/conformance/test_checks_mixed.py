"""Checks 64, 65, 68 and 70: Ruby and bridge on one Redis, shutdowns, outages. 63: test_checks_fleet.py."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.celery import Bridge
from tests.support import census
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess


def test_check_64_failures_in_ruby_then_bridge_then_ruby_count_on(
    stage: Stage, stock_sidekiq: StockSidekiq
) -> None:
    stage.push_job({"class": "FailJob", "args": [], "retry": True}, "stock")
    first = stage.only("retry")

    move_retry(stage, "default")
    second = next_entry(stage, 1)
    move_retry(stage, "stock")
    third = next_entry(stage, 2)

    assert first["retry_count"] == 0
    assert first["failed_at"] == second["failed_at"] == third["failed_at"]
    assert type(second["retried_at"]) is type(third["retried_at"]) is type(first["failed_at"])
    assert list(second)[: len(first)] == list(first), "the same fields in the same order"


def move_retry(stage: Stage, queue: str) -> None:
    ((payload, _),) = stage.redis.zpopmin("retry")
    stage.push_raw(payload, queue)


def next_entry(stage: Stage, count: int) -> dict[str, object]:
    wait_for(
        lambda: stage.redis.zcard("retry") and stage.only("retry")["retry_count"] == count, "the next retry"
    )
    return stage.only("retry")


def test_check_65_the_latency_of_what_the_bridge_pushed_is_right(stage: Stage, producer: Bridge) -> None:
    before = time.time()
    producer.send_task("EchoJob", queue="parked")

    latency = stage.ruby.call("latency", name="parked")

    assert -0.1 <= latency <= time.time() - before + 0.1
    stage.ruby.get("/queues").assert_fine()


@pytest.mark.parametrize("unit", ["seconds", "milliseconds"])
def test_check_65_the_latency_page_stands_both_units(
    stage: Stage, sidekiq: tuple[int, ...], unit: str
) -> None:
    ago = time.time() - 30
    stamp = ago if unit == "seconds" else int(ago * 1000)
    stage.push_job({"class": "EchoJob", "args": [], "enqueued_at": stamp, "created_at": stamp}, "parked")

    latency = stage.ruby.call("latency", name="parked")

    if unit == "seconds" or sidekiq >= (8,):
        assert 29 < latency < 35
    else:
        assert latency < -1e12, "6 and 7 read seconds only: rule 0.1"
    stage.ruby.get("/queues/parked").assert_fine()


def test_check_68_an_error_caused_by_the_shutdown_is_given_back_and_not_retried(
    stage: Stage, disposable_worker: WorkerProcess
) -> None:
    payload = b'{"class":"ShutdownCausedJob","args":["never"],"jid":"drained", "retry":true,"retry_count":3}'
    stage.push_raw(payload, "own")
    stage.ledger.wait_for("started", "drained")

    assert disposable_worker.terminate() == 0

    assert stage.redis.lrange("queue:own", 0, -1) == [payload]
    assert (stage.redis.zcard("retry"), stage.counters()) == (0, (0, 0))


@pytest.fixture
def restartable(ruby_root: RubyRoot) -> Iterator[tuple[RedisServer, Stage]]:
    """A stage on a Redis of its own, which keeps its data when it is stopped."""
    with tempfile.TemporaryDirectory(prefix="sb-aof-") as directory:
        server = RedisServer(Path(directory), "--appendonly", "yes", "--appendfsync", "always")
        made = Stage(server, ruby_root)
        try:
            made.start_sidecar()
            made.start_worker()
            yield server, made
        finally:
            made.stop()
            server.stop()


def test_check_70_a_restart_of_redis_loses_no_count_and_the_worker_registers_again(
    restartable: tuple[RedisServer, Stage],
) -> None:
    server, stage = restartable
    done = stage.ruby.push("EchoJob")
    stage.ledger.wait_for("done", done)
    running = stage.ruby.push("GateJob", "restart")
    stage.ledger.wait_for("started", running)

    server.stop()
    stage.ledger.open_gate("restart")
    stage.ledger.wait_for("done", running)
    server.start()

    stage.redis.delete(*stage.redis.smembers("processes"))
    stage.redis.delete("processes")
    wait_for(lambda: stage.redis.scard("processes") == 1, "the worker to register again", 25)
    wait_until_equal(stage.counters, (2, 0), "processed and failed")
    after = stage.ruby.push("EchoJob")
    stage.ledger.wait_for("done", after)
    assert stage.ledger.count("done", running) == 1
    stage.wait_idle()
    assert census.assert_each_in_one_place(stage.redis) == {}
    stage.ruby.get("/busy").assert_fine()
