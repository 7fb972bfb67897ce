"""The self-peek: wakes when a queue gets a job, without taking it.

``BLMOVE queue:x queue:x RIGHT RIGHT t`` pops the tail and puts it back in one command, so the list is as it
was, Ruby's BRPOP beside it still gets the job, and a worker that vanishes while it waits takes nothing with
it.
"""

from __future__ import annotations

import time
from typing import Any

import redis

from bridge.redis.client import own_connection
from bridge.sidekiq import keys


class Peek:
    """Watches one queue on a connection of its own. Raises redis.RedisError or OSError when that is cut."""

    def __init__(self, client: redis.Redis, queue: str, timeout_seconds: float = 20.0) -> None:
        self.queue = queue
        self._connection = own_connection(client)
        self._timeout = timeout_seconds
        name = keys.queue(queue)
        self._command = self._connection.pack_command("BLMOVE", name, name, "RIGHT", "RIGHT", timeout_seconds)
        self._armed_at: float | None = None
        self.socket: Any = None
        """The socket to wait on. Kept when the link is cut: the event loop must be able to name it."""

    @property
    def armed(self) -> bool:
        """Whether a BLMOVE is under way."""
        return self._armed_at is not None

    @property
    def overdue(self) -> bool:
        """Whether the answer is late: the link is dead, and no error has told so."""
        return self._armed_at is not None and time.monotonic() - self._armed_at > self._timeout + 3

    def arm(self) -> None:
        """Begin to wait. Only for a queue that a claim has just found empty, or this spins."""
        self._connection.connect()
        self._connection.send_packed_command(self._command)
        self._armed_at = time.monotonic()
        self.socket = self._connection._sock

    def answered(self) -> bytes | None:
        """Read the answer: the exact bytes of the job that runs next; None after the timeout."""
        self._armed_at = None
        found: bytes | None = self._connection.read_response()
        return found

    def close(self) -> None:
        """Give up waiting."""
        self._armed_at = None
        self._connection.disconnect()
