"""Commands that a managed Redis takes away, by ``rename-command`` or by an ACL: what the worker does without.

A worker does not start without scripts and TIME. The others make it faster, or known by name; it says once
which of them are missing, and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import redis

from bridge.errors import RedisRefusal
from bridge.redis import eviction

logger = logging.getLogger(__name__)

CLIENT_NAME = "sidekiq-bridge"
_NO_SCRIPT = "0" * 40

#: Each needed command, with a call of it that changes nothing.
NEEDED: tuple[tuple[Any, ...], ...] = (("EVALSHA", _NO_SCRIPT, 0), ("TIME",))
#: Each other command, with a call of it that changes nothing, and the consequence without it.
OTHERS: tuple[tuple[tuple[Any, ...], str], ...] = (
    (("CLIENT", "SETNAME", CLIENT_NAME), "the connections of the bridge have no name in CLIENT LIST"),
    (
        ("CLIENT", "TRACKING", "OFF"),
        "each push wakes every idle worker, and a worker looks at the fifth and each further queue every "
        "BRIDGE_POLL_INTERVAL_SECONDS",
    ),
    # Without its arguments: with them it waits. Redis knows the name before it counts them.
    (("BLMOVE",), "the worker looks at each queue every BRIDGE_POLL_INTERVAL_SECONDS"),
    (("INFO", "memory"), "the worker cannot tell whether Redis drops jobs when it is full"),
)


def is_forbidden(error: BaseException) -> bool:
    """Whether Redis does not know the command, or does not let this user call it."""
    return isinstance(error, redis.exceptions.NoPermissionError) or (
        isinstance(error, redis.ResponseError) and "unknown command" in str(error).casefold()
    )


def require(client: redis.Redis) -> None:
    """Ask for each command that no worker can do without.

    Raises:
        RedisRefusal: the sentence names them, and what to write instead.
        redis.RedisError, OSError: Redis does not answer.
    """
    refused = [words[0] for words, answer in _ask(client, *NEEDED) if is_forbidden(answer)]
    scripts = [answer for _, answer in _ask(client, ("SCRIPT", "LOAD", "return 1"), ("EVAL", "return 1", 0))]
    if all(map(is_forbidden, scripts)):
        refused.append("SCRIPT LOAD and EVAL")
    if refused:
        raise RedisRefusal(
            f"Redis refuses {', '.join(refused)}, and no worker can do without: take the rename-command out "
            "of its configuration, or allow the command to this user (deploy/redis/users.acl)"
        )


def warn(client: redis.Redis) -> None:
    """Say once what this Redis does not offer, or does with keys when it is full. Never raises."""
    eviction.warn(client)
    try:
        answers = dict(_ask(client, *(words for words, _ in OTHERS)))
    except (redis.RedisError, OSError) as error:
        logger.debug("cannot tell which commands Redis refuses: %s", error)
        return
    for words, consequence in OTHERS:
        if is_forbidden(answers[words]):
            name = " ".join(words[:2]) if words[0] == "CLIENT" else words[0]
            logger.warning("Redis refuses %s (%s): %s", name, answers[words], consequence)


def introduce(connection: Any) -> None:
    """redis-py's own first commands on a connection, and its name, which Redis may refuse."""
    connection.on_connect()
    try:
        connection.send_command("CLIENT", "SETNAME", CLIENT_NAME)
        connection.read_response()
    except redis.ResponseError as error:
        if not is_forbidden(error):
            raise


def _ask(client: redis.Redis, *commands: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    pipeline = client.pipeline(transaction=False)
    for words in commands:
        pipeline.execute_command(*words)
    return zip(commands, pipeline.execute(raise_on_error=False), strict=True)
