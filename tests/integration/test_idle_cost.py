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


def commands_per_second(client: redis.Redis) -> float:
    """Of a worker that has just started and gets no jobs."""
    time.sleep(REST_SECONDS)
    before = calls(client)
    time.sleep(WATCHED_SECONDS)
    return (calls(client) - before) / WATCHED_SECONDS


@pytest.mark.parametrize("queues", [QUEUES[:1], QUEUES], ids=["one queue", "a hundred"])
def test_an_idle_worker_without_a_sidecar_asks_redis_little_and_still_takes_what_comes(
    queues: tuple[str, ...], tmp_path: Path, ruby_root: RubyRoot
) -> None:
    """It read each of its queues each second: 104 commands a second with a hundred of them."""
    server = RedisServer(tmp_path)
    stage = Stage(server, ruby_root)
    try:
        stage.start_worker("-Q", ",".join(queues), env={"BRIDGE_LEASE_SECONDS": "15"})

        assert commands_per_second(stage.redis) < MOST_COMMANDS_PER_SECOND
        for queue in (queues[0], queues[-1], queues[len(queues) // 2]):
            jid = stage.push_job({"class": "NativeEchoJob", "args": [queue]}, queue)
            stage.ledger.wait_for("done", jid)
    finally:
        stage.stop()
        server.stop()


def test_an_idle_worker_with_a_hundred_queues_asks_redis_little_and_still_takes_what_comes(
    idle_stage: Stage,
) -> None:
    assert commands_per_second(idle_stage.redis) < MOST_COMMANDS_PER_SECOND
    for queue in ("q1", "q77", "q4"):
        jid = idle_stage.push_job({"class": "EchoJob", "args": [queue]}, queue)
        idle_stage.ledger.wait_for("done", jid)
