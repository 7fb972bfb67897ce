"""Runs Lua scripts: many calls in one round trip, reloaded where Redis forgot them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from bridge.redis import commands
from bridge.redis.encoding import Words
from bridge.redis.outages import connection_error


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua file, with its includes written in."""

    name: str
    text: bytes
    sha: bytes

    @classmethod
    def of(cls, name: str, source: str) -> Script:
        """The script with this source; Redis knows it by the SHA-1 of its text."""
        text = source.encode()
        return cls(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script; keys and arguments are strings, bytes or numbers."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes | int | float]


Send = Callable[[Sequence[Words]], list[Any]]
"""One round trip: an answer for each command, the :class:`redis.ResponseError` where Redis refused it."""


def run(client: redis.Redis, calls: Sequence[Call], send: Send | None = None) -> list[Any]:
    """Run the calls in order, in one round trip: by ``send``, or over a connection of the client's.

    Returns one result for each call: what the script returned, or the :class:`redis.ResponseError` it ended
    with.

    Raises:
        StoreUnavailable: the connection failed; Redis may or may not have carried out any of the calls.
    """
    send = send or functools.partial(_pipeline, client)
    evalshas: list[Words] = [
        ("EVALSHA", call.script.sha, str(len(call.keys)), *call.keys, *call.args) for call in calls
    ]
    try:
        results = send(evalshas)
        missing = [
            i for i, answer in enumerate(results) if isinstance(answer, redis.exceptions.NoScriptError)
        ]
        if missing:
            for i, result in zip(missing, _teach(client, [calls[i] for i in missing], send), strict=True):
                results[i] = result
    except (redis.RedisError, OSError) as error:
        raise connection_error(error) from error
    return results


def _pipeline(client: redis.Redis, commands: Sequence[Words]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for words in commands:
        pipeline.execute_command(*words)
    return list(pipeline.execute(raise_on_error=False))


def load(client: redis.Redis, scripts: Iterable[Script]) -> bool:
    """Have Redis know these scripts. False where it refuses SCRIPT LOAD: a managed one, which knows EVAL."""
    try:
        for script in scripts:
            client.execute_command("SCRIPT LOAD", script.text)
    except redis.ResponseError as error:
        if not commands.is_forbidden(error):
            raise
        return False
    return True


def _teach(client: redis.Redis, calls: Sequence[Call], send: Send) -> list[Any]:
    """Run calls whose scripts Redis does not know."""
    is_loaded = load(client, dict.fromkeys(call.script for call in calls))
    return send([_words(call, "EVALSHA" if is_loaded else "EVAL") for call in calls])


def _words(call: Call, name: str) -> Words:
    script = call.script.sha if name == "EVALSHA" else call.script.text
    return (name, script, len(call.keys), *call.keys, *call.args)
