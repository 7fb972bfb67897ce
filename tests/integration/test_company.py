"""Limits ask whether Sidekiq itself serves the same Redis."""

from __future__ import annotations

import pytest
import redis

from bridge.limits.company import Company


@pytest.mark.parametrize(("processes", "looks"), [(100, 4), (1_300, 1)])
def test_a_worker_reads_all_processes_the_rarer_the_more_there_are(
    empty_redis: redis.Redis, processes: int, looks: int
) -> None:
    """Each worker asked for the leases of all, every 15 s."""
    # Given a fleet without a process of Sidekiq; each rest is up to a half shorter or longer
    names = [f"host:{number}:a" for number in range(processes)]
    empty_redis.sadd("processes", *names)
    empty_redis.zadd("bridge:lease", dict.fromkeys(names, 1.0))
    now = [0.0]
    company = Company(empty_redis, clock=lambda: now[0])
    empty_redis.config_resetstat()
    # When a worker asks each second of a minute
    for second in range(60):
        now[0] = float(second)
        assert not company.look()
    # Then it has read so many times
    assert empty_redis.info("commandstats")["cmdstat_smembers"]["calls"] == looks
