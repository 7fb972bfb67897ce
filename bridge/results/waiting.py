"""Waits for the end of a job: by a message of Redis, never by asking again and again."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from bridge.errors import StoreUnavailable
from bridge.redis.commands import is_forbidden
from bridge.redis.outages import connection_error, translated
from bridge.results.lookup import Lookup
from bridge.results.record import Record
from bridge.results.store import ResultStore
from bridge.sidekiq import keys

logger = logging.getLogger(__name__)

#: Seconds until the hash is read again: a message may be lost with its connection, and a hash may be evicted.
LOOK_SECONDS = 15.0
#: The same where Redis refuses SUBSCRIBE.
LOOK_ANYWAY_SECONDS = 0.5
#: Seconds between the attempts to listen again, once the connection is lost.
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)
#: Subscribed connections that are kept for the next wait.
_MOST_IDLE = 16

Changed = Callable[[Record], object]


class Subscriptions:
    """Connections for messages. One serves one waiting thread at a time; a forked child has its own."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle: deque[Any] = deque()
        self._pid = os.getpid()

    def take(self) -> Any:
        """A redis-py PubSub."""
        if self._pid != os.getpid():
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._client.pubsub()

    def give_back(self, subscribed: Any) -> None:
        """It has unsubscribed, and may serve another wait."""
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(subscribed)
        else:
            subscribed.close()


class Waiter:
    """Waits in the calling thread; any number of threads may wait."""

    def __init__(self, store: ResultStore, lookup: Lookup) -> None:
        self._store = store
        self._lookup = lookup
        self._subscriptions = Subscriptions(store.client)

    def wait(self, jid: str, timeout: float | None, changed: Changed = lambda record: None) -> Record | None:
        """The record of a job that has ended; None when ``timeout`` (seconds) is over.

        ``changed`` is told of each change before the end.

        Raises:
            NotTracked, ResultUnknown: no end of this job will ever be written.
            StoreUnavailable: Redis does not answer.
        """
        until = None if timeout is None else time.monotonic() + timeout
        record = self._store.read(jid)  # most ends are there already
        if record is not None and record.is_finished:
            return record
        try:
            return self._await_end(jid, until, changed)
        except redis.ResponseError as error:
            if not is_forbidden(error):
                raise translated(error) from error
            logger.warning(
                "Redis refuses SUBSCRIBE: a result is read every %g s instead", LOOK_ANYWAY_SECONDS
            )
            return self._look_again_and_again(jid, until, changed)

    def _await_end(self, jid: str, until: float | None, changed: Changed) -> Record | None:
        """Listens again after a lost connection: Redis restarts in a moment, and a kept one may be dead."""
        for pause in (*PAUSES, None):
            try:
                return self._await_message(keys.result(jid), jid, until, changed)
            except StoreUnavailable:
                if pause is None or (until is not None and time.monotonic() + pause >= until):
                    raise
                time.sleep(pause)
        raise AssertionError("the last pause is None")

    def _await_message(self, channel: str, jid: str, until: float | None, changed: Changed) -> Record | None:
        listening = self._subscriptions.take()
        try:
            found = self._listen(listening, channel, jid, until, changed)
            listening.unsubscribe(channel)
        except BaseException as error:
            with suppress(redis.RedisError, OSError):
                listening.close()  # answers may be left unread
            if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
                raise connection_error(error) from error
            raise
        self._subscriptions.give_back(listening)
        return found

    def _look_again_and_again(self, jid: str, until: float | None, changed: Changed) -> Record | None:
        while until is None or time.monotonic() < until:
            record = self._lookup.record(jid)
            if record is not None:
                if record.is_finished:
                    return record
                changed(record)
            left = LOOK_ANYWAY_SECONDS if until is None else until - time.monotonic()
            time.sleep(max(0.0, min(LOOK_ANYWAY_SECONDS, left)))
        return None

    def _listen(
        self, listening: Any, channel: str, jid: str, until: float | None, changed: Changed
    ) -> Record | None:
        listening.subscribe(channel)
        subscribed = False
        while True:
            left = LOOK_SECONDS if until is None else min(LOOK_SECONDS, until - time.monotonic())
            message = listening.get_message(timeout=max(0.0, left)) if left > 0 else None
            if message is not None and not _is_about(message, channel):
                continue
            subscribed = subscribed or message is not None
            record = self._lookup.record(jid)
            if record is not None:
                if record.is_finished:
                    return record
                changed(record)
            if left <= 0:
                return None


def _is_about(message: dict[str, Any], channel: str) -> bool:
    """Whether a message tells of this channel: that it is subscribed, or that something has changed."""
    return message["type"] in ("subscribe", "message") and message["channel"] == channel.encode()
