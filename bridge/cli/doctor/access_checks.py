"""Whether this Redis user may do what a worker does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from bridge.broker import channel, fanout
from bridge.cli.doctor.finding import Check, Finding, error
from bridge.cli.doctor.site import Site
from bridge.settings import Settings
from bridge.sidekiq import keys

_NAME = "bridge-doctor"
#: As long as a real one: rules for Redis users know the keys of a process by its twelve last characters.
_IDENTITY = "bridge-doctor:1:000000000000"
_QUEUE, _INFLIGHT = keys.queue(_NAME), keys.inflight(_NAME)

#: The commands that a worker and this program send, each on a key of each kind that it is sent for.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("EVALSHA", "0" * 40, "1", keys.LEASE),
    ("SCRIPT", "LOAD", "return 1"),
    *((name, _QUEUE, "x") for name in ("LPUSH", "RPUSH")),
    ("RPOP", _QUEUE),
    ("LLEN", _QUEUE),
    ("LRANGE", _QUEUE, "0", "0"),
    ("LREM", _QUEUE, "0", "x"),
    ("LINDEX", _QUEUE, "0"),
    ("BLMOVE", _QUEUE, _QUEUE, "RIGHT", "RIGHT", "0.01"),
    ("BLMOVE", _QUEUE, keys.arrived(_NAME), "RIGHT", "LEFT", "0.01"),
    ("UNLINK", _QUEUE),
    *(("SADD", key, "x") for key in (keys.QUEUES, keys.PROCESSES, keys.PAUSED)),
    *(("SREM", key, "x") for key in (keys.QUEUES, keys.PROCESSES, keys.PAUSED)),
    ("SISMEMBER", keys.PAUSED, "x"),
    ("SMEMBERS", keys.QUEUES),
    *(("ZADD", key, "1", "x") for key in (keys.RETRY, keys.SCHEDULE, keys.DEAD, keys.LEASE)),
    *(("ZREM", key, "x") for key in (keys.RETRY, keys.SCHEDULE, keys.DEAD, keys.LEASE)),
    ("ZCARD", keys.RETRY),
    ("ZRANGE", keys.DEAD, "0", "0"),
    ("ZRANGEBYSCORE", keys.SCHEDULE, "0", "0"),
    ("ZREMRANGEBYSCORE", keys.DEAD, "0", "0"),
    ("ZREMRANGEBYRANK", keys.DEAD, "0", "0"),
    ("ZSCAN", keys.RETRY, "0"),
    ("ZSCORE", keys.LEASE, "x"),
    ("HSET", _INFLIGHT, "1", "x"),
    ("HDEL", _INFLIGHT, "1"),
    ("HEXISTS", _INFLIGHT, "1"),
    ("HGETALL", _INFLIGHT),
    ("HLEN", _INFLIGHT),
    ("HSET", _IDENTITY, "info", "x"),
    ("HSET", keys.work(_IDENTITY), "1", "x"),
    ("RPOP", keys.signals(_IDENTITY)),
    ("EXPIRE", _IDENTITY, "1"),
    ("INCR", keys.recovered(_NAME)),
    ("INCRBY", keys.PROCESSED, "1"),
    ("GET", keys.FAILED),
    ("SET", keys.searching(_NAME), "1"),
    ("EXISTS", keys.RECOVERING),
    ("TYPE", keys.DEAD),
    ("TIME",),
)


def _commands(settings: Settings) -> tuple[tuple[str, ...], ...]:
    if not settings.remote_control:
        return COMMANDS
    topic = fanout.topic(settings.redis_url.db, channel.EVENTS, "worker.heartbeat")
    return *COMMANDS, ("PUBLISH", topic, "x")


def permissions(site: Site) -> Iterator[Finding]:
    commands = _commands(site.settings)
    refused = sorted({" ".join(command[:2]) for command in commands if _is_refused(site.client, command)})
    if refused:
        user = site.settings.redis_url.username or "default"
        cure = "give it the rules of the worker's user: docs/operations.md, or deploy/"
        yield error("redis-acl", f"the Redis user {user} may not {', '.join(refused)}", cure)


def _is_refused(client: redis.Redis, command: tuple[str, ...]) -> bool:
    """Redis judges a command when it is queued inside MULTI; DISCARD forgets it: nothing is ever done."""
    connection: Any = client.connection_pool.get_connection()
    try:
        if _say(connection, "MULTI") not in ("OK", "b'OK'"):
            return True  # without it the command would be carried out
        refused = _say(connection, *command)
        _say(connection, "DISCARD")
        return refused.startswith("NOPERM") or "no permissions" in refused
    finally:
        client.connection_pool.release(connection)


def _say(connection: Any, *words: str) -> str:
    connection.send_command(*words)
    try:
        return str(connection.read_response())
    except redis.exceptions.NoPermissionError as refusal:
        return f"NOPERM {refusal}"
    except redis.ResponseError as reply:
        return str(reply)


CHECKS: tuple[Check, ...] = (permissions,)
