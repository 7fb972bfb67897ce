from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage

MOST_COMMANDS_PER_SECOND = 5.0
#: Two heartbeats, two renewals of the lease.
WATCHED_SECONDS = 10.0
#: The first claims and what a start writes are over.
REST_SECONDS = 3.0
QUEUES = tuple(f"q{number}" for number in range(100))


@pytest.fixture
def idle_stage(tmp_path: Path, ruby_root: RubyRoot) -> Iterator[Stage]:
    """On a Redis of its own, which counts for all databases together."""
    server = RedisServer(tmp_path)
    made = Stage(server, ruby_root)
    try:
        made.start_sidecar()
        made.start_worker("-Q", ",".join(QUEUES), env={"BRIDGE_LEASE_SECONDS": "15"})
        yield made
    finally:
        made.stop()
        server.stop()


def calls(client: redis.Redis) -> int:
    """Commands so far, those inside scripts too."""
    found = client.info("commandstats")
    return sum(int(value["calls"]) for name, value in found.items() if name != "cmdstat_info")


def test_an_idle_worker_with_a_hundred_queues_asks_redis_little_and_still_takes_what_comes(
    idle_stage: Stage,
) -> None:
    time.sleep(REST_SECONDS)
    before = calls(idle_stage.redis)
    time.sleep(WATCHED_SECONDS)

    assert (calls(idle_stage.redis) - before) / WATCHED_SECONDS < MOST_COMMANDS_PER_SECOND
    for queue in ("q1", "q77", "q4"):
        jid = idle_stage.push_job({"class": "EchoJob", "args": [queue]}, queue)
        idle_stage.ledger.wait_for("done", jid)
