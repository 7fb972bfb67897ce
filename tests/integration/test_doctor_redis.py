"""Faults of Redis, each planted in a server of its own; ``bridge doctor`` names them with their cure.

Two cannot be had here from a real server: an old Redis (no package of the distribution has one) and one whose
clock is wrong (both processes share this machine's). There a proxy alters what a real server says.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.proxy import Proxy
from tests.support.command import Bridge
from tests.support.diagnosis import Seen, diagnose, process, redis_with
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for


def looked_at(port: int, host: str = "127.0.0.1", **settings: str) -> dict[str, Seen]:
    own = {"BRIDGE_REDIS_URL": f"redis://{host}:{port}/0", "BRIDGE_HEALTH_BIND": "127.0.0.1:0"}
    return diagnose(Bridge({**own, **settings}))


@pytest.fixture
def healthy(own_server: RedisServer) -> Iterator[RedisServer]:
    """A server without any of these faults."""
    yield own_server
    left = {"no-worker", "redis-persistence", "sidecar-away", "sidekiq-version"}
    assert looked_at(own_server.port).keys() <= left | {"late-heartbeat", "redis-slow"}


def saying(server: RedisServer, version: str) -> int:
    """Port of a proxy in which this server is of another version, of as many letters."""
    with server.client() as client:
        own = str(client.info("server")["redis_version"])
    told = f"{version}.".ljust(len(own), "9")[: len(own)]
    before, after = f"redis_version:{own}".encode(), f"redis_version:{told}".encode()
    return Proxy(server.port, lambda answer: answer.replace(before, after)).port


def test_a_redis_that_is_too_old_is_named(healthy: RedisServer) -> None:
    assert "6.2 or later" in looked_at(saying(healthy, "6.0"))["redis-version"].cure


def test_a_redis_that_is_too_old_for_sidekiq_8_is_named(own_server: RedisServer) -> None:
    port = saying(own_server, "6.2")
    assert "redis-version" not in looked_at(port)
    with own_server.client() as client:
        process(client, "8.1.0")

    assert "7.0 or later" in looked_at(port)["redis-version"].cure


@pytest.mark.parametrize(
    ("seconds", "severity", "way"), [(60, "error", "ahead of"), (-10, "warning", "behind")]
)
def test_a_redis_whose_clock_is_wrong_is_named(
    healthy: RedisServer, seconds: int, severity: str, way: str
) -> None:
    def shifted(answer: bytes) -> bytes:
        return re.sub(
            rb"^(\*2\r\n\$10\r\n)(\d{10})\r\n", lambda m: b"%s%d\r\n" % (m[1], int(m[2]) + seconds), answer
        )

    found = looked_at(Proxy(healthy.port, shifted).port)["redis-clock"]

    assert (found.severity, way in found.seen) == (severity, True)
    assert "time service" in found.cure


def test_redis_cluster_is_named(tmp_path: Path) -> None:
    ports = ("--cluster-port", str(free_port()))
    with redis_with(tmp_path, "--cluster-enabled", "yes", *ports) as server, server.client() as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster")

        assert "one server, or Sentinel" in looked_at(server.port)["redis-cluster"].cure


def test_a_redis_that_is_open_to_anybody_is_named(healthy: RedisServer, tmp_path: Path) -> None:
    # The second address is not this machine's, and the minus lets Redis do without it: nobody else gets in.
    open_to_all = ("--protected-mode", "no", "--bind", "127.0.0.1", "-192.0.2.1")
    with redis_with(tmp_path, *open_to_all) as server:
        assert "set a password" in looked_at(server.port)["redis-open"].cure
    with redis_with(tmp_path, "--protected-mode", "no") as server:
        assert "redis-open" not in looked_at(server.port)


def test_jobs_that_leave_this_machine_in_the_clear_are_named(healthy: RedisServer) -> None:
    # A way to write loopback that no table of addresses knows: as good as the name of another machine.
    assert "rediss://" in looked_at(healthy.port, "127.1")["redis-clear"].cure


def test_a_redis_that_is_far_away_is_named(healthy: RedisServer) -> None:
    far = Proxy(healthy.port, delay_seconds=0.03).port

    assert "into one network" in looked_at(far)["redis-slow"].cure


def test_a_redis_with_hardly_a_connection_left_is_named(healthy: RedisServer) -> None:
    clients = [redis.Redis(port=healthy.port) for _ in range(20)]
    for client in clients:
        client.ping()
    clients[0].config_set("maxclients", 22)

    found = looked_at(healthy.port)["redis-clients"]

    assert "of 22 connections" in found.seen
    assert "maxclients" in found.cure
    clients[0].config_set("maxclients", 10_000)
    for client in clients:
        client.close()


def test_a_snapshot_that_could_not_be_written_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with redis_with(tmp_path, "--dir", str(gone)) as server, server.client() as client:
        assert "redis-disk" not in looked_at(server.port)
        shutil.rmtree(gone)
        client.bgsave()
        wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the snapshot", 20)

        assert "free space" in looked_at(server.port)["redis-disk"].cure


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("redis://127.0.0.1:{port}/99", "write the number of a database"),
        ("redis://:hunter2@127.0.0.1:{port}/0", "take the password out of"),
        ("redis://nobody:hunter2@127.0.0.1:{port}/0", "the password that this Redis knows"),
        ("redis://127.0.0.1:{closed}/0", "start it"),
    ],
)
def test_a_redis_that_is_there_and_refuses_is_not_to_be_started(
    own_server: RedisServer, url: str, cure: str
) -> None:
    found = diagnose(Bridge({"BRIDGE_REDIS_URL": url.format(port=own_server.port, closed=1)}))["redis-away"]

    assert cure in found.cure
    assert "hunter2" not in found.seen
