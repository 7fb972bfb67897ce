from __future__ import annotations

from typing import Any

import pytest

from bridge.redis import sentinel
from bridge.redis.address import RedisAddress
from bridge.redis.sentinel import MasterFollower


def test_a_process_without_a_thread_looks_once_a_second_before_its_pushes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Web processes pushed to a former master for the ten seconds in which it still answers."""
    now, asked = [100.0], [0]
    monkeypatch.setattr(sentinel.time, "monotonic", lambda: now[0])
    follower = MasterFollower(RedisAddress(sentinels=[("127.0.0.1", 1)], master="mymaster"))

    def discover(_: Any) -> tuple[str, int]:
        asked[0] += 1
        return "127.0.0.1", 2

    monkeypatch.setattr(follower._sentinel, "discover_master", discover)
    for _ in range(3):
        follower.look_if_due()
    assert asked == [1]
    now[0] += sentinel.LOOK_SECONDS
    follower.look_if_due()
    assert asked == [2]
