"""The tests' own count of the jobs that workers hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support import census

LIST, HASH = "bridge:arrived:host:1:abc:1:default", "bridge:inflight:host:1:abc"


@pytest.mark.parametrize("step", [1, 2])
def test_a_job_that_enters_the_hash_while_it_is_counted_is_counted_once(
    empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The hashes were read before the lists: a test that waited for idle workers went on beside a job."""
    # Given a job in the list of a watch, which enters the hash right after a step of the count
    empty_redis.lpush(LIST, "job")
    scan, steps = empty_redis.scan_iter, []

    def scan_iter(*args: Any, **options: Any) -> Iterator[Any]:
        found = list(scan(*args, **options))
        steps.append(args)
        if len(steps) == step:
            empty_redis.delete(LIST)
            empty_redis.hset(HASH, "1", "1\ndefault\njob")
        return iter(found)

    monkeypatch.setattr(empty_redis, "scan_iter", scan_iter)
    # When the census counts, then it finds this job
    assert [list(entries.values()) for entries in census.inflight(empty_redis).values()] == [
        [b"1\ndefault\njob"]
    ]
