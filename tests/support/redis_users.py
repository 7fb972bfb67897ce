"""The published users of Redis (deploy/redis/users.acl), on a server of the tests."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import redis

from tests.support.processes import ROOT

FILE = ROOT / "deploy/redis/users.acl"
PASSWORD = "only-for-tests"
WORKER, CONTROL = "bridge", "bridge-control"

#: The bridge runs under this user in every suite where the variable names one (scripts/test --redis-user).
#: What a test looks at and prepares stays with the administrator; so does Ruby, which has the app's rights.
CHOSEN = os.environ.get("TEST_REDIS_USER", "")


def rules(user: str) -> list[str]:
    """The words after ``user NAME``, with the password of the tests."""
    for line in FILE.read_text().splitlines():
        words = line.split()
        if words[:2] == ["user", user]:
            return [rule for word in words[2:] for rule in _for_tests(word)]
    raise AssertionError(f"{FILE} names no user {user}")


def _for_tests(word: str) -> list[str]:
    """The tests' own password; and every database, whose number stands in the channels' names."""
    if word.startswith("#SHA256"):
        return [f">{PASSWORD}"]
    return (
        [word.replace("&/0.", f"&/{number}.") for number in range(16)] if word.startswith("&/0.") else [word]
    )


def make(client: redis.Redis) -> None:
    """Add both users."""
    for user in (WORKER, CONTROL):
        client.execute_command("ACL", "SETUSER", user, *rules(user))


def url_for(url: str, user: str) -> str:
    """The same server as that user; a URL with a user of its own stays as it is."""
    parts = urlsplit(url)
    if not user or "@" in parts.netloc or parts.scheme != "redis":
        return url
    return parts._replace(netloc=f"{user}:{PASSWORD}@{parts.netloc}").geturl()


def for_bridge(url: str) -> str:
    """The same server as the user that was chosen for the bridge."""
    return url_for(url, CHOSEN)


def denied(client: redis.Redis) -> list[tuple[str, str]]:
    """(user, command or key) of what the server has refused so far."""
    return [(str(entry["username"]), str(entry["object"])) for entry in client.acl_log()]
