"""Fixtures for every suite; tests/conftest.py loads them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support import redis_server as redis_server_module
from tests.support import redis_users, shared_servers
from tests.support.limit_fleet import LimitFleet
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the whole session.

    Workers of other tests use it meanwhile. A test that counts the commands of a server, or cuts the
    connections of all its clients, needs one of its own.
    """
    with tempfile.TemporaryDirectory(prefix="sb-redis-") as directory:
        server = RedisServer(Path(directory))
        shared_servers.share("redis_server", server.process)
        yield server
        shared_servers.forget("redis_server")
        server.stop()


@pytest.fixture(autouse=bool(redis_users.CHOSEN))
def nothing_denied(request: pytest.FixtureRequest) -> Iterator[None]:
    """Under a published user of Redis: a test in which the bridge was refused anything has failed."""
    yield
    refused = [entry for server in redis_server_module.RUNNING for entry in _denied(server)]
    if not request.node.get_closest_marker("tries_rights"):
        assert refused == []


def _denied(server: RedisServer) -> list[tuple[str, str]]:
    """What the server has refused to the chosen user since this was last asked."""
    try:
        with server.client(socket_timeout=2) as client:
            found = [entry for entry in redis_users.denied(client) if entry[0] == redis_users.CHOSEN]
            client.acl_log_reset()
            return found
    except redis.RedisError:  # a server that a test has stopped, frozen or shut
        return []


@pytest.fixture
def empty_redis(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the session's Redis, database 15 emptied: the shared stages live in others."""
    with redis_server.client(15) as client:
        client.flushdb()
        yield client


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer) -> Iterator[LimitFleet]:
    """Workers under the same limits; none runs yet."""
    made = LimitFleet(tmp_path, redis_server)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def ruby_root() -> RubyRoot:
    """The Ruby under test."""
    return RubyRoot.from_environment()


@pytest.fixture(scope="session")
def shared_stage(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """A worker and its sidecar for all tests that leave them alive: starting a pair costs seconds."""
    stage = Stage(redis_server, ruby_root)
    try:
        stage.start_sidecar()
        stage.start_worker()
        yield stage
    finally:
        stage.stop()


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    """The shared worker and sidecar, with nothing left from the test before."""
    shared_stage.reset()
    return shared_stage


@pytest.fixture
def bare_stage(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """Redis (database 1, empty) and the gem; the test starts sidecar and worker as it needs them."""
    with Stage(redis_server, ruby_root, database=1) as made:
        yield made
