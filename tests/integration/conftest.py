"""What the integration tests build on: the real parts of a worker without Celery, on a real Redis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from bridge.sidekiq.store.store import RedisStore
from tests.integration.worker import Worker, as_bridge, connect_to
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import SidecarProcess


@pytest.fixture
def store(empty_redis: redis.Redis, redis_server: RedisServer) -> Iterator[RedisStore]:
    """The store on the session's Redis, emptied."""
    client = as_bridge(connect_to(redis_server.port, database=15))
    yield RedisStore(client)
    client.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may stop, fill or freeze."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def client(own_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of that Redis: tests may count its commands, and cut its connections."""
    with own_server.client() as made:
        yield made


@pytest.fixture
def make_worker(redis_server: RedisServer, empty_redis: redis.Redis) -> Iterator[Callable[..., Worker]]:
    """Makes workers on the session's Redis, or on the port that is named."""
    made: list[Worker] = []
    numbers = itertools.count(1)

    def make(port: int | None = None, **options: object) -> Worker:
        database = 15 if port is None else 0
        worker = Worker(f"host:{next(numbers)}", port or redis_server.port, database, **options)
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.close()


@pytest.fixture
def worker(make_worker: Callable[..., Worker]) -> Worker:
    """One worker with four slots on queue "default"."""
    return make_worker()


@pytest.fixture(scope="module")
def sidecar_of(redis_server: RedisServer, ruby_root: RubyRoot, tmp_path_factory: Any) -> Iterator[Any]:
    """Makes real sidecars, each in a place of its own."""
    places, made = [], []

    def make(**options: Any) -> SidecarProcess:
        places.append(ruby_root.make_directory())
        made.append(SidecarProcess(ruby_root, places[-1], redis_server.url_of(15), **options))
        return made[-1]

    yield make
    for sidecar in made:
        sidecar.stop()
    for place in places:
        place.remove()
