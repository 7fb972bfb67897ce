"""The series about the fleet on each worker's page."""

from __future__ import annotations

import pytest
import redis

from bridge.monitoring.metrics.queues import QueueSeries


@pytest.mark.parametrize(("processes", "reads"), [(10, 3 * 10), (200, 200)])
def test_a_scrape_reads_the_rows_of_a_large_fleet_less_often(
    empty_redis: redis.Redis, processes: int, reads: int
) -> None:
    """Each worker is scraped, and read the rows of all: the square of the fleet at each scrape."""
    # Given a fleet in which each process runs two jobs
    for number in range(processes):
        empty_redis.sadd("processes", f"host:{number}:a")
        empty_redis.hset(f"host:{number}:a", "busy", 2)
    series = QueueSeries(empty_redis, lambda: ["default"], lambda: True)
    empty_redis.config_resetstat()
    # When one worker is scraped three times at once
    pages = [{family.name: family for family in series.collect()} for _ in range(3)]
    # Then each page counts all, and a large fleet was read once
    for page in pages:
        assert page["sidekiq_active_processes"].samples[0].value == processes
        assert page["sidekiq_active_workers_count"].samples[0].value == 2 * processes
    assert empty_redis.info("commandstats")["cmdstat_hget"]["calls"] == reads
