"""Chains while workers die: no step is lost, and none is pushed twice."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from celery import chain

from bridge.celery import make_app
from bridge.settings import load as load_settings
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

CHAINS, STEPS, KILLS = 30, 5, 6
ENV = {"BRIDGE_LEASE_SECONDS": "3", "BRIDGE_POISON_PILL_LIMIT": "0"}


def steps(app: Any, first: int) -> Any:
    later = (app.signature("SlowAddJob", args=[1]) for _ in range(STEPS - 1))
    return chain(app.signature("SlowAddJob", args=[first, 0]), *later, app=app)


@pytest.mark.short
def test_workers_that_are_killed_lose_and_double_no_step(
    redis_server: RedisServer, ruby_root: RubyRoot
) -> None:
    """Given kill -9 of one of two workers, six times: each step is settled once, each result is right."""
    with Stage(redis_server, ruby_root, database=10) as stage:
        app = make_app(load_settings({"BRIDGE_REDIS_URL": stage.redis_url}))
        workers = [make(stage, "one"), make(stage, "two")]
        results = [steps(app, number).apply_async() for number in range(CHAINS)]
        for kill in range(KILLS):
            worker = workers.pop(0)
            worker.process.signal(signal.SIGKILL)
            worker.process.wait(10)
            workers.append(make(stage, f"next{kill}"))
        found = [result.get(timeout=90) for result in results]
        wait_until_equal(stage.counters, (CHAINS * STEPS, 0), "each step to be settled once")
        for worker in workers:
            worker.stop()
        assert found == [number + STEPS - 1 for number in range(CHAINS)]
        assert stage.queued == {}
        assert not stage.redis.exists("retry", "dead", "schedule")


def make(stage: Stage, name: str) -> Any:
    return stage.make_worker(module="tests.support.tracked_tasks", env=ENV, name=name, concurrency=4)
