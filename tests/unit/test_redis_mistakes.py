from __future__ import annotations

import pytest

from bridge.settings import load as load_settings
from bridge.settings import redis_mistakes

SAID = {
    "AUTH <password> called without any password configured for the default user.": (
        "has no password for this user", "take the password out of {place}", True,
    ),
    "WRONGPASS invalid username-password pair or user is disabled.": (
        "refuses this user or password", "that this Redis knows into {place}", True,
    ),
    "NOAUTH Authentication required.": ("wants a password", "write it into {place}", True),
    "Authentication required.": ("wants a password", "write it into {place}", True),
    "DB index is out of range": ("has no database of this number", "into {place}", False),
    'Protocol error, got "H" as reply type byte': (
        "is not a Redis server: something else listens there", "the port in {place}", False,
    ),
    # A Redis with TLS cuts a connection without it, and was said to be down.
    "Error while reading from r:1 : (104, 'Connection reset by peer')": (
        "does not answer", "{place}; where it speaks TLS write rediss://", False,
    ),
    "Connection closed by server.": (
        "does not answer", "{place}; where it speaks TLS write rediss://", False,
    ),
    "Error 111 connecting to r:1. Connection refused.": ("does not answer", "or correct {place}", False),
    "Timeout connecting to server": ("does not answer", "or correct {place}", False),
}  # fmt: skip


@pytest.mark.parametrize("place", ["BRIDGE_REDIS_URL", "REDIS_URL"])
@pytest.mark.parametrize("said", SAID)
def test_each_refusal_of_redis_names_the_variable_that_was_set(said: str, place: str) -> None:
    # A Redis without a password was said not to answer, and BRIDGE_REDIS_URL, which was unset, to be wrong.
    seen, cure, refused = SAID[said]
    settings = load_settings({place: "redis://:hunter2@r:1/0"})

    mistake = redis_mistakes.explain(Exception(said), settings)

    assert mistake.seen.startswith(f"Redis at redis://***@r:1/0 {seen} (")
    assert cure.format(place=place) in mistake.cure
    assert "hunter2" not in str(mistake)
    assert redis_mistakes.is_refusal(Exception(said)) == refused


def test_a_redis_at_the_default_address_is_to_be_named() -> None:
    mistake = redis_mistakes.explain(Exception("Connection refused"), load_settings({}))

    assert mistake.cure == "start it, or set BRIDGE_REDIS_URL"
