"""What this project assumes of redis-py beyond its documentation."""

from __future__ import annotations

import selectors

import pytest
import redis


def test_a_connection_of_ones_own_has_a_socket_to_wait_on(empty_redis: redis.Redis) -> None:
    """Peeks and replies wait on ``Connection._sock``; without it the worker would only poll."""
    connection = empty_redis.connection_pool.make_connection()
    connection.connect()
    connection.send_command("BLMOVE", "none", "none", "RIGHT", "RIGHT", 0.05)
    with selectors.DefaultSelector() as selector:
        selector.register(connection._sock, selectors.EVENT_READ)
        assert selector.select(2)
    assert connection.read_response() is None
    connection.disconnect()
    assert connection._sock is None


def test_a_subscription_has_a_connection_with_a_socket_and_a_connect_that_subscribes_again(
    empty_redis: redis.Redis,
) -> None:
    """Fanout waits on ``pubsub.connection._sock`` and mends a cut link by ``connect``."""
    pubsub = empty_redis.pubsub()
    pubsub.psubscribe("topic")
    connection = pubsub.connection
    assert connection is not None
    assert connection._sock is not None
    connection.disconnect()
    connection.connect()
    for _ in range(2):
        pubsub.get_message(timeout=1)
    assert empty_redis.execute_command("PUBLISH", "topic", "x") == 1
    pubsub.close()


@pytest.mark.parametrize(
    ("code", "kind"), [("READONLY", redis.ReadOnlyError), ("OOM", redis.OutOfMemoryError)]
)
def test_an_errors_code_is_kept_in_status_code(code: str, kind: type[Exception]) -> None:
    """is_outage asks for it, because the text has lost it."""
    from redis._parsers.base import BaseParser

    error = BaseParser.parse_error(f"{code} something")
    assert isinstance(error, kind)
    assert getattr(error, "status_code", None) == code
    assert not str(error).startswith(code)


def test_a_pipeline_gives_errors_as_results_where_it_is_told_to(empty_redis: redis.Redis) -> None:
    """One refused settlement must not hide the outcomes of the others."""
    pipeline = empty_redis.pipeline(transaction=False)
    pipeline.execute_command("EVALSHA", "0" * 40, 0)
    pipeline.set("a", 1)
    missing, done = pipeline.execute(raise_on_error=False)
    assert isinstance(missing, redis.exceptions.NoScriptError)
    assert done is True
