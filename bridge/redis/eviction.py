"""Warns of a Redis that may evict keys: it drops jobs, and no worker can keep its promise there."""

from __future__ import annotations

import logging

import redis

logger = logging.getLogger(__name__)

SAFE = "noeviction"


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
