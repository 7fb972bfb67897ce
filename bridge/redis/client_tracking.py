"""Watches any number of keys over one connection: Redis tells once when one of them changes.

``CLIENT TRACKING`` (Redis 6) remembers which keys this connection has asked for, and pushes a message when
one of them is written. So ``EXISTS`` of all of them is question and watch in one command. A message says
"look again", no more; to miss one costs nothing but the time to the next look.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis

from bridge.redis.client import own_connection

#: Seconds after which the link is tried again: a dead one says nothing.
TRUST_SECONDS = 20.0


class ClientTracking:
    """Raises redis.RedisError or OSError when the connection is cut; ResponseError where it is forbidden."""

    def __init__(self, client: redis.Redis) -> None:
        self._connection = own_connection(client)
        # Push messages exist in RESP3 only.
        self._connection.protocol = 3
        self._keys: tuple[str, ...] = ()
        self._armed_at: float | None = None
        self._changed: set[str] | None = set()
        self.socket: Any = None
        """The socket to wait on, while one is there."""

    def watches(self, keys: Sequence[str]) -> bool:
        """Whether a change of any of these keys will be told, or was."""
        fresh = self._armed_at is not None and time.monotonic() - self._armed_at < TRUST_SECONDS
        return fresh and tuple(keys) == self._keys

    def arm(self, keys: Sequence[str]) -> bool:
        """Watch from now on. Returns whether one of the keys is there."""
        if self._connection._sock is None:
            self._connection.connect()
            self._connection._parser.set_invalidation_push_handler(self._note)
            self._ask("CLIENT", "TRACKING", "ON")
        found = self.arm_again(keys)
        self._keys, self._armed_at = tuple(keys), time.monotonic()
        self.socket = self._connection._sock
        if self._connection.can_read(0):
            # It came with the answer, and may lie in the parser: who waits on the socket would not see it.
            self._armed_at = None
            return True
        return bool(found)

    def has_news(self) -> bool:
        """Whether something has changed since ``arm``; does not wait, and costs Redis nothing."""
        if self._connection._sock is None:
            return True
        try:
            return bool(self._connection.can_read(0))
        except redis.RedisError:
            return True  # it was cut

    def told(self) -> None:
        """Read one message; the watch is over."""
        self._armed_at = None
        self._connection.read_response(push_request=True)

    def arm_again(self, keys: Sequence[str]) -> int:
        """Watch those of the keys that have changed; the others are watched still. Returns how many exist."""
        found = int(self._ask("EXISTS", *keys))
        if self._changed is not None:
            self._changed.difference_update(keys)  # told before the answer, which is newer
        return found

    def changed(self) -> set[str] | None:
        """Read all messages: the keys that have changed since the last call, watched no more; None: all."""
        while self._connection.can_read(0):
            self._connection.read_response(push_request=True)
        found, self._changed = self._changed, set()
        return found

    def _note(self, message: list[Any]) -> None:
        changed = message[1]
        if changed is None:  # FLUSHALL
            self._changed = None
        elif self._changed is not None:
            self._changed.update(key.decode(errors="replace") for key in changed)

    def close(self) -> None:
        """Watch no more."""
        self._armed_at, self._changed = None, set()
        self._connection.disconnect()

    def _ask(self, *command: str) -> Any:
        self._connection.send_command(*command)
        return self._connection.read_response()
