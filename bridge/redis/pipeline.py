"""A connection kept for calls that follow closely: taking one from the pool costs as much as a call."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis

from bridge.redis.encoding import Words, all_packed

#: Seconds without a call after which the connection is checked first: a firewall may have closed it.
IDLE_SECONDS = 5.0

#: More than that goes out command by command: each may take as long as the connection's timeout says.
TOGETHER_BYTES = 65_536


class KeptConnection:
    """Sends commands over one connection. For one thread at a time."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._connection: Any = None
        self._used_at = 0.0

    def send(self, commands: Sequence[Words]) -> list[Any]:
        """Send commands in one round trip. An answer is the ResponseError where Redis refused."""
        connection = self._ready()
        try:
            # Not by the connection, which takes names apart and pieces together again for each command.
            pieces = all_packed(commands)
            is_small = sum(map(len, pieces)) < TOGETHER_BYTES
            connection.send_packed_command([b"".join(pieces)] if is_small else pieces)
            answers = [_answer(connection) for _ in commands]
        except BaseException:
            # Also where an exception was raised in this thread from outside: answers may be left unread.
            self._hang_up(connection)
            raise
        if any(_is_demotion(answer) for answer in answers if isinstance(answer, redis.ResponseError)):
            # A failover by name: the name may lead to another server by now, for a new connection.
            self._hang_up(connection)
            self._client.connection_pool.disconnect(inuse_connections=False)
        return answers

    def renew_if_closed(self) -> None:
        """Hang up where the server was restarted since the last call, which would fail the next one."""
        if (connection := self._connection) is None:
            return
        try:
            stale = connection.can_read()
        except (redis.ConnectionError, OSError):
            stale = True
        if stale:
            self._hang_up(connection)

    def _hang_up(self, connection: Any) -> None:
        self._connection = None
        connection.disconnect()
        self._client.connection_pool.release(connection)

    def _ready(self) -> Any:
        now = time.monotonic()
        if self._connection is None or now - self._used_at > IDLE_SECONDS:
            idle, self._connection = self._connection, None
            if idle is not None:
                # Forgotten first: once given back it is another thread's, also where no new one is to be had.
                self._client.connection_pool.release(idle)
            # The pool looks whether it is alive, and asks the Sentinels for the master again.
            self._connection = self._client.connection_pool.get_connection()
        self._used_at = now
        return self._connection


class KeptConnections:
    """Lines for any thread, one for each that calls at the same time. After a fork the child has its own."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle: deque[KeptConnection] = deque()
        self._pid = os.getpid()

    def send(self, commands: Sequence[Words]) -> list[Any]:
        """As :meth:`KeptConnection.send`."""
        line = self._take()
        try:
            line.renew_if_closed()
            return line.send(commands)
        finally:
            self._idle.append(line)

    def _take(self) -> KeptConnection:
        if self._pid != os.getpid():
            # The parent goes on using its sockets: an answer read here would be missed there.
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return KeptConnection(self._client)


def _is_demotion(answer: redis.ResponseError) -> bool:
    return isinstance(answer, redis.exceptions.ReadOnlyError) or "-READONLY " in str(answer)  # 6.2, in Lua


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
