"""``Result.get`` in Ruby while Redis is away: it waits for a restart, and says so in an error of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_helper import RubyHelper
from tests.support.ruby_root import RubyRoot
from tests.support.waiting import wait_for

JOBS = ROOT / "tests/support/ruby/tracked_jobs.rb"
JID = "d" * 24
GET = (
    "$asked = Thread.new do began = Process.clock_gettime(Process::CLOCK_MONOTONIC); "
    "value = begin; SidekiqBridge::Result.get(%r, timeout: %s); rescue => e; [e.class.name, e.message]; end; "
    "[value, Process.clock_gettime(Process::CLOCK_MONOTONIC) - began]; end; true"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    # It keeps what it has: else the wait may find an empty Redis after the restart, and an unknown result.
    server = RedisServer(tmp_path, "--save", "", "--appendonly", "yes")
    yield server
    server.stop()


@pytest.fixture
def ruby(server: RedisServer, ruby_root: RubyRoot) -> Iterator[RubyHelper]:
    place = ruby_root.make_directory()
    helper = RubyHelper(ruby_root, place, server.url)
    helper.evaluate(f"require {json.dumps(str(JOBS))}; true")
    yield helper
    helper.process.kill()
    place.remove()


def asking(server: RedisServer, ruby: RubyHelper, timeout: str) -> None:
    """Given a job that runs, and a thread in Ruby that waits for it."""
    running(server)
    ruby.evaluate(GET % (JID, timeout))
    wait_for(lambda: server.client().pubsub_numsub(f"bridge:result:{JID}")[0][1], "the wait to begin")


def running(server: RedisServer, **more: str) -> None:
    fields = {"status": "running", "class": "AddJob", **more}
    server.client().hset(f"bridge:result:{JID}", mapping=fields)  # type: ignore[arg-type]


def test_a_restart_of_redis_is_outlasted(server: RedisServer, ruby: RubyHelper) -> None:
    """It raised Redis::ConnectionError, though the job was done later."""
    asking(server, ruby, "30")
    server.stop()
    server.start()
    running(server, status="done", result="3")
    value, _ = ruby.evaluate("$asked.value")
    assert value == 3


def test_a_redis_that_stays_away_is_an_error_of_our_own(server: RedisServer, ruby: RubyHelper) -> None:
    asking(server, ruby, "nil")
    server.stop()
    (kind, message), seconds = ruby.evaluate("$asked.value")
    assert kind == "SidekiqBridge::StoreUnavailable"
    assert message.startswith("Redis does not answer: ")
    assert 7 < seconds < 20


def test_a_wait_that_begins_without_redis_ends_in_its_time(server: RedisServer, ruby: RubyHelper) -> None:
    running(server)
    server.stop()
    ruby.evaluate(GET % (JID, "1"))
    (kind, _), seconds = ruby.evaluate("$asked.value")
    assert kind == "SidekiqBridge::StoreUnavailable"
    assert seconds < 5
