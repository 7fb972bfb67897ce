"""Warns of a Redis that may evict keys: it drops jobs, and no worker can keep its promise there."""

from __future__ import annotations

import logging
import time

import redis

logger = logging.getLogger(__name__)

SAFE = "noeviction"


#: Seconds for which an answer about the policy holds.
KNOWN_SECONDS = 60.0


class Policy:
    """Whether a Redis drops keys when it is full. Asks at most once in ``KNOWN_SECONDS``."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._until = 0.0
        self._drops = False

    def drops_keys(self) -> bool:
        """False too where Redis does not say. Raises redis.RedisError in an outage."""
        now = time.monotonic()
        if now >= self._until:
            self._until = now + KNOWN_SECONDS
            try:
                found = self._client.info("memory")
            except redis.ResponseError:  # a managed Redis may refuse INFO
                found = {}
            self._drops = bool(found.get("maxmemory")) and found.get("maxmemory_policy", SAFE) != SAFE
        return self._drops


def warn(client: redis.Redis) -> str | None:
    """Say once what is wrong with the server's policy. Returns the policy where it is; never raises."""
    try:
        policy = client.info("memory").get("maxmemory_policy", SAFE)
    except (redis.RedisError, OSError) as error:
        logger.debug("cannot tell what Redis does when it is full: %s", error)
        return None
    if policy == SAFE:
        return None
    logger.warning(
        "Redis drops keys when it is full (maxmemory-policy %s), and jobs with them: "
        "CONFIG SET maxmemory-policy noeviction, and write it to redis.conf",
        policy,
    )
    return str(policy)
