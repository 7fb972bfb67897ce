"""Runs Lua scripts: many calls in one round trip, reloaded where Redis forgot them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis


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

    @property
    def words(self) -> tuple[str | bytes | int | float, ...]:
        """The command as it is sent."""
        return "EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args


RoundTrip = Callable[[Sequence[Call]], list[Any]]


def run(client: redis.Redis, calls: Sequence[Call], round_trip: RoundTrip | None = None) -> list[Any]:
    """Run the calls in order, in one round trip, over a connection of the client's or by ``round_trip``.

    Returns one result for each call: what the script returned, or the :class:`redis.ResponseError` it ended
    with.

    Raises:
        redis.RedisError: the connection failed; any of the calls may or may not have been carried out.
    """
    send = round_trip or functools.partial(_pipeline, client)
    results = send(calls)
    missing = [i for i, result in enumerate(results) if isinstance(result, redis.exceptions.NoScriptError)]
    if missing:
        _teach(client, [calls[i].script for i in missing])
        for i, result in zip(missing, send([calls[i] for i in missing]), strict=True):
            results[i] = result
    return results


def _pipeline(client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command(*call.words)
    return list(pipeline.execute(raise_on_error=False))


def _teach(client: redis.Redis, scripts: Sequence[Script]) -> None:
    for script in dict.fromkeys(scripts):
        client.execute_command("SCRIPT LOAD", script.text)
