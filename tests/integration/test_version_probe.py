"""Which Sidekiq this is, where no sidecar says it."""

from __future__ import annotations

import json
from typing import Any

from bridge.sidekiq.process import version_probe


def test_the_version_is_that_of_another_process(empty_redis: Any) -> None:
    empty_redis.sadd("processes", "me:1:a", "old:2:b", "other:3:c")
    empty_redis.hset("me:1:a", "info", json.dumps({"version": "9.9.9"}))
    empty_redis.hset("old:2:b", "info", json.dumps({"hostname": "of 6.4, which reports none"}))
    empty_redis.hset("other:3:c", "info", json.dumps({"version": "7.3.2"}))
    assert version_probe.version(empty_redis, "me:1:a") == "7.3.2"


def test_rows_that_are_no_rows_are_passed_over(empty_redis: Any) -> None:
    empty_redis.sadd("processes", "a", "b", "c", "d")
    empty_redis.hset("a", "info", "{")
    empty_redis.hset("b", "info", "[1]")
    empty_redis.hset("c", "info", json.dumps({"version": "; drop"}))
    assert version_probe.version(empty_redis, "me") is None


def test_a_worker_that_starts_in_a_large_fleet_reads_one_row(empty_redis: Any) -> None:
    """It read the rows of all: the start of a fleet cost Redis the square of its size."""
    # Given a fleet of 50 that knows its Sidekiq
    names = [f"host:{number}:a" for number in range(50)]
    empty_redis.sadd("processes", *names)
    for name in names:
        empty_redis.hset(name, "info", json.dumps({"version": "8.1.7"}))
    empty_redis.config_resetstat()
    # When one more worker asks
    found = version_probe.version(empty_redis, "me:1:a")
    # Then one row has told
    assert found == "8.1.7"
    assert empty_redis.info("commandstats")["cmdstat_hget"]["calls"] == 1
