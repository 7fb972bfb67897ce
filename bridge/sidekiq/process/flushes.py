"""Writes increments to Redis once each, also where an answer is lost."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable

import redis

from bridge.redis import scripts
from bridge.redis.outages import is_outage, outages, raise_first_error
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua

Command = tuple[str | int, ...]
"""One Redis command with its arguments; the second word is its key."""


class Flushes:
    """The flushes of one writer. Each has a number, which says whether Redis has carried it out."""

    def __init__(self) -> None:
        self._name = os.urandom(8).hex()
        self._lock = threading.Lock()
        self._number = 0
        self._unconfirmed: tuple[Command, ...] = ()
        """Commands of a flush that Redis may have carried out."""

    def flush(self, client: redis.Redis, drain: Callable[[], tuple[Command, ...]]) -> None:
        """Write what ``drain`` takes out of the counts.

        A flush without an answer is sent again as it was, until Redis confirms it. Raises StoreUnavailable.
        """
        with self._lock:
            if self._unconfirmed:
                self._send(client)
            self._unconfirmed = drain()
            if self._unconfirmed:
                self._number += 1
                self._send(client)

    def _send(self, client: redis.Redis) -> None:
        names = list(dict.fromkeys(str(command[1]) for command in self._unconfirmed))
        words = [
            [command[0], names.index(str(command[1])) + 2, *command[2:]] for command in self._unconfirmed
        ]
        args = (self._number, keys.FLUSHED_TTL_SECONDS, json.dumps(words))
        call = scripts.Call(lua.load("metrics_flush"), (keys.flushed(self._name), *names), args)
        with outages():
            (answer,) = scripts.run(client, [call])
        if isinstance(answer, redis.RedisError) and is_outage(answer):
            raise_first_error([answer])
        self._unconfirmed = ()
