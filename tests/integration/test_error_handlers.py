"""What a worker assumes about the app's error handlers until a sidecar answers.

Each failure of a native job was stored for error handlers that no sidecar had reported: a failing job
cost twice as much in a worker that had never met one.
"""

from __future__ import annotations

from typing import Any

import pytest
import redis

from bridge.sidekiq.outcome.dialect import Dialect
from bridge.sidekiq.process.error_handlers import ErrorHandlers
from tests.support.redis_server import RedisServer


def started(client: Any, said: bool | None = None) -> Dialect:
    """The dialect of a worker that has just started; ``said``: what its sidecar answers, if any does."""
    dialect = Dialect(tells_ruby=True)
    handlers = ErrorHandlers(dialect, client)
    handlers.recall()
    if said is not None:
        dialect.learn("7.3.2", error_handlers=said)
    handlers.remember()
    return dialect


def tells(dialect: Dialect) -> tuple[bool, bool]:
    return dialect.rules.tells_deaths, dialect.rules.tells_errors


def test_before_the_first_answer_of_a_sidecar_ruby_is_told_of_deaths_alone(empty_redis: redis.Redis) -> None:
    assert tells(started(empty_redis)) == (True, False)
    assert empty_redis.dbsize() == 0


def test_a_worker_beside_no_sidecar_knows_what_one_has_said_to_another_worker(
    empty_redis: redis.Redis,
) -> None:
    assert tells(started(empty_redis, said=True)) == (True, True)
    dialect = started(empty_redis)
    assert tells(dialect) == (True, True)
    # Another Sidekiq process tells the version.
    dialect.learn("8.1.7")
    assert tells(dialect) == (True, True)


def test_the_latest_answer_holds(empty_redis: redis.Redis) -> None:
    started(empty_redis, said=True)
    assert tells(started(empty_redis, said=False)) == (True, False)
    assert tells(started(empty_redis)) == (True, False)
    assert empty_redis.dbsize() == 0


def test_an_answer_during_an_outage_of_redis_is_stored_afterwards(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A real outage: a stub of one command knew its arguments, and broke when the command got another one."""
    with own_server.client() as client:
        dialect = Dialect(tells_ruby=True)
        handlers = ErrorHandlers(dialect, client)
        handlers.recall()
        dialect.learn("7.3.2", error_handlers=True)
        own_server.stop()
        handlers.remember()
        assert "does not know whether the app has error handlers" in caplog.text
        own_server.start()
        handlers.remember()
        assert tells(started(client)) == (True, True)
