"""The watch that takes: Redis moves the next job of a queue into a list of this worker, and wakes no other.

``BLMOVE queue:x bridge:arrived:<identity>:<watch> RIGHT LEFT t``. The connection speaks RESP3 and tracks
two keys. So Redis tells on this very connection, before the job, that queues were paused or that orphaned
jobs were given back: the order of one connection holds.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import hiredis
import redis

from bridge.redis.client import own_connection
from bridge.redis.encoding import packed
from bridge.sidekiq import keys
from bridge.sidekiq.store.claims import ArrivedList

logger = logging.getLogger(__name__)

READ_BYTES = 65_536
#: Seconds beyond its time-out after which an answer is late: the link is dead.
LATE_SECONDS = 3.0
#: Seconds to wait for the end of a watch.
END_SECONDS = 1.0
#: A watch that is answered within this time has met a queue with more jobs.
BACKLOG_SECONDS = 0.001


class Take:
    """Watches one queue on a connection of its own. Raises redis.RedisError or OSError when that is cut."""

    takes = True

    def __init__(self, client: redis.Redis, home: ArrivedList) -> None:
        self.home = home
        self.queue = home.queue
        self._connection = own_connection(client)
        self._connection.protocol = 3  # push messages exist in RESP3 only
        self._reader: Any = hiredis.Reader()
        queue = keys.queue(self.queue)
        self._command = packed(("BLMOVE", queue, home.key, "RIGHT", "LEFT", "%s"))
        self._question = packed(("EXISTS", keys.RECOVERING)) + packed(("SISMEMBER", keys.PAUSED, self.queue))
        self._client = client
        self._client_id: Any = None
        self.token = 0
        """Of the job that the present watch brings."""
        self.armed = False
        """Whether a BLMOVE is under way."""
        self._armed_at = self._timeout = 0.0
        self._is_ending = False
        self.socket: Any = None
        """The socket to wait on. Kept when the link is cut: the event loop must be able to name it."""
        self.is_marked = True
        """Whether queues may have been paused, or orphaned jobs given back, since Redis was asked."""
        self.is_paused = False
        self.is_recovering = False
        """Whether orphaned jobs waited in queues when Redis was asked."""
        self.met_backlog = False
        """Whether the last answer came at once: more jobs wait there, and a claim takes many."""

    @property
    def overdue(self) -> bool:
        """Whether the answer is late: the link is dead, and no error has told so."""
        return self.armed and time.monotonic() - self._armed_at > self._timeout + LATE_SECONDS

    def arm(self, timeout_seconds: float) -> bool:
        """Begin to wait. False where the queue is paused."""
        if self.socket is None:
            self._connect()
        if self.is_marked:
            self.ask()
        if self.is_paused:
            return False
        text = b"%.3f" % timeout_seconds
        self.socket.sendall(self._command.replace(b"$2\r\n%s\r\n", b"$%d\r\n%s\r\n" % (len(text), text)))
        self._armed_at, self._timeout, self.armed = time.monotonic(), timeout_seconds, True
        self._is_ending = False
        return True

    def answered(self) -> list[bytes | None]:
        """Read: the exact bytes of the job that is taken, None after the timeout; nothing before."""
        self._read()
        answers = self._replies()
        for reply in answers:
            is_answer = type(reply) is bytes or reply is None or isinstance(reply, Exception)
            if not self.armed or not is_answer:
                raise redis.InvalidResponse(f"not the answer to a BLMOVE: {reply!r:.80}")
            self.met_backlog = time.monotonic() - self._armed_at < BACKLOG_SECONDS
            self.armed = False
            if isinstance(reply, Exception):
                raise _refusal(reply)
        return answers

    def ask(self) -> None:
        """Learn whether the queue is paused and orphaned jobs wait. Only while no BLMOVE is under way."""
        self.is_marked = False
        self.socket.sendall(self._question)
        found: list[Any] = []
        while len(found) < 2:
            self._read()
            found += self._replies()
        # A set of a wrong type pauses nothing.
        self.is_recovering, self.is_paused = found[0] != 0, found[1] == 1

    def is_found_paused(self) -> bool:
        """Whether the queue was paused before its last job came. Asked where ``is_marked``."""
        try:
            self.ask()
        except (redis.RedisError, OSError) as error:
            logger.debug("the watch on queue %s was cut: %s", self.queue, error)
            self.is_recovering = True
            return True
        return self.is_paused

    def unblock(self) -> None:
        """Have Redis end the watch. Its answer comes as after the timeout, or a job has come before."""
        if not self._is_ending:
            self._is_ending = True
            self._client.execute_command("CLIENT UNBLOCK", self._client_id)

    def end(self) -> bool:
        """Have Redis end the watch, and read its answer. Returns whether no command is on its way any more.

        A job that came meanwhile stays in the list.
        """
        deadline = time.monotonic() + END_SECONDS
        try:
            if self.armed:
                self.unblock()
            while self.armed and time.monotonic() < deadline and self._connection.can_read(END_SECONDS):
                self.answered()
        except (redis.RedisError, OSError) as error:
            logger.debug("cannot end the watch on queue %s: %s", self.queue, error)
            return False
        return not self.armed

    def close(self) -> None:
        """Give up waiting. The list must be fenced: the command may be on its way, or its answer."""
        self.armed = False
        self._connection.disconnect()

    def _connect(self) -> None:
        self._connection.connect()
        self.socket = self._connection._sock
        self.socket.sendall(packed(("CLIENT", "ID")) + packed(("CLIENT", "TRACKING", "ON")))
        found: list[Any] = []
        while len(found) < 2:
            self._read()
            found += self._replies()
        for reply in found:
            if isinstance(reply, Exception):
                raise _refusal(reply)
        self._client_id = found[0]

    def _read(self) -> None:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise redis.ConnectionError("Redis closed the connection")
        self._reader.feed(data)
        # TLS: what is decrypted already makes the socket readable no more.
        while getattr(self.socket, "pending", int)():
            self._reader.feed(self.socket.recv(READ_BYTES))

    def _replies(self) -> list[Any]:
        gets, found = self._reader.gets, []
        try:
            while (reply := gets()) is not False:
                if isinstance(reply, hiredis.PushNotification):
                    self.is_marked = True
                else:
                    found.append(reply)
        except hiredis.ProtocolError as error:
            raise redis.InvalidResponse(str(error)) from error
        return found


def _refusal(reply: Exception) -> redis.ResponseError:
    text = str(reply)
    return (
        redis.exceptions.NoPermissionError(text) if text.startswith("NOPERM") else redis.ResponseError(text)
    )
