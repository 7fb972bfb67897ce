from __future__ import annotations

from typing import Any

import pytest
import redis

from bridge.redis import pipeline
from bridge.redis.pipeline import TOGETHER_BYTES, KeptConnection


def test_a_connection_that_was_given_back_is_never_used_beside_its_new_owner(
    empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "IDLE_SECONDS", 0.0)
    pool: Any = empty_redis.connection_pool
    kept = KeptConnection(empty_redis)
    kept.send([("PING",)])

    # No new one is to be had: the old one is given back, and another thread takes it.
    with monkeypatch.context() as outage:
        outage.setattr(pool, "get_connection", lambda: (_ for _ in ()).throw(redis.ConnectionError("down")))
        with pytest.raises(redis.ConnectionError):
            kept.send([("PING",)])
    others = pool.get_connection()
    others.send_command("CLIENT", "ID")
    owner = others.read_response()

    assert kept.send([("CLIENT", "ID")]) != [owner]
    pool.release(others)


def test_after_an_error_no_answer_is_taken_for_that_of_another_command(empty_redis: redis.Redis) -> None:
    kept = KeptConnection(empty_redis)

    answers = kept.send([("ECHO", "1"), ("LPUSH", "x"), ("NOSUCH",), ("ECHO", "2")])

    assert (answers[0], answers[3]) == (b"1", b"2")
    assert all(isinstance(answer, redis.ResponseError) for answer in answers[1:3])
    assert kept.send([("ECHO", "3")]) == [b"3"]


def test_what_is_too_much_for_one_send_goes_out_command_by_command(
    empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a thousand settlements in one send had five seconds together, and began anew for ever."""
    sent: list[int] = []
    real = redis.Connection.send_packed_command

    def counted(self: redis.Connection, command: list[bytes], *args: object) -> None:
        sent.append(len(command))
        real(self, command, *args)

    kept = KeptConnection(empty_redis)
    kept.send([("PING",)])
    monkeypatch.setattr(redis.Connection, "send_packed_command", counted)

    small = kept.send([("ECHO", "a"), ("ECHO", "b")])
    large = kept.send([("ECHO", "a" * TOGETHER_BYTES), ("ECHO", "b")])

    assert sent == [1, 2]
    assert [small, [len(answer) for answer in large]] == [[b"a", b"b"], [TOGETHER_BYTES, 1]]
