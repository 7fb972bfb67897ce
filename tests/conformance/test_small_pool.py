"""Code of the app runs in the app's executor, on threads that its pools are sized for."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

APP = ROOT / "tests/support/ruby/small_pool.rb"
POOL = 4


@pytest.fixture
def small(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """A sidecar with as many slots as its app has connections to the database."""
    with Stage(redis_server, ruby_root, database=10, jobs=APP) as stage:
        stage.start_sidecar(threads=POOL, env={"TEST_POOL": str(POOL)})
        yield stage


def due(stage: Stage, count: int) -> None:
    """Entries of ``schedule`` that must pass the client middleware now."""
    for number in range(count):
        payload = {"class": "EchoJob", "jid": f"due-{number}", "queue": "high", "args": []}
        stage.redis.zadd("schedule", {json.dumps(payload): 1.0})


def push(stage: Stage, count: int, seconds: float) -> None:
    """Jobs that keep a connection for that time."""
    for _ in range(count):
        stage.push_job({"class": "QueryJob", "args": [seconds], "queue": "default", "retry": True})


def test_due_jobs_that_pass_client_middleware_take_no_connection_from_jobs(small: Stage) -> None:
    """Client middleware ran on the server's own threads, which kept their connections: no job had one."""
    due(small, 24)
    small.start_worker(concurrency=POOL)
    wait_for(lambda: small.ledger.count("done") >= 24, "the due jobs", 30)

    push(small, 16, 0.3)

    wait_until_equal(lambda: small.ledger.count("done") - 24, 16, "jobs that are done", 20)
    assert small.redis.zcard("retry") == 0
    small.wait_counters(40, 0)


def test_promotions_and_jobs_share_the_pool_at_the_same_time(small: Stage) -> None:
    push(small, 16, 0.2)
    due(small, 200)
    small.start_worker(concurrency=POOL)

    wait_until_equal(lambda: small.ledger.count("done"), 216, "jobs that are done", 40)
    assert small.redis.zcard("retry") == 0
    assert small.sidecar is not None
    assert "Client middleware failed" not in small.sidecar.process.log


def test_a_lifecycle_hook_gives_its_connection_back(small: Stage) -> None:
    """The main thread kept the one that :startup took: of four long jobs one found none, and failed."""
    push(small, POOL, 4)
    small.start_worker(concurrency=POOL)

    wait_until_equal(lambda: small.ledger.count("done"), POOL, "jobs that are done", 20)
    small.wait_counters(POOL, 0)
