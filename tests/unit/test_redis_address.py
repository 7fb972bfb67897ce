from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping

import pytest
from sentry_sdk.serializer import serialize

from bridge.redis.address import RedisAddress

ADDRESS = RedisAddress("redis", 6380, 2, "me", "secret", sentinels=[("one", 26379)], master="m")


def test_an_error_tracker_that_takes_values_apart_shows_no_password() -> None:
    """It was a tuple: Sentry's serializer showed each of its fields in the frames of a traceback."""
    assert serialize({"address": ADDRESS, "more": [ADDRESS]}) == {
        "address": repr(ADDRESS),
        "more": [repr(ADDRESS)],
    }
    assert "secret" not in repr(ADDRESS)
    assert not isinstance(ADDRESS, Iterable | Mapping)
    assert not hasattr(ADDRESS, "__dict__")


def test_addresses_are_values() -> None:
    same = RedisAddress(**ADDRESS.as_dict())
    assert same == ADDRESS == pickle.loads(pickle.dumps(ADDRESS))
    assert hash(same) == hash(ADDRESS)
    assert ADDRESS.but(password="other") != ADDRESS
    assert ADDRESS.but(port=1).port == 1
    assert ADDRESS.as_dict() != ADDRESS
    with pytest.raises(TypeError):
        ADDRESS.but(hots="typo")
