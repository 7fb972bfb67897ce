"""Limits of queues that sidekiq-limit_fetch keeps in Redis: at once, for each process, and pauses.

Follows ``semaphore.rb``, ``selector.rb`` and ``monitor.rb`` of release 4.4. The gem lists a process once for
each place of a queue that it has (``limit_fetch:probed:<queue>``), and drops those of processes without a
heartbeat. A worker does the same, so it and Ruby processes keep one limit together.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import redis

from bridge.redis import scripts
from bridge.redis.outages import outages, raise_first_error
from bridge.sidekiq import fleet, keys
from bridge.sidekiq.fetch.rooms import Room
from bridge.sidekiq.store import lua

logger = logging.getLogger(__name__)

#: Seconds between two looks for limits, where some are known and where none is.
LOOK_SECONDS = 1.0
DISCOVER_SECONDS = 10.0
NEVER_SECONDS = 86_400.0
#: As in the gem's monitor.
HEARTBEAT_SECONDS = 5.0
HEARTBEAT_TTL_SECONDS = 20


class LimitFetch:
    """``round`` and ``leave`` are for its own thread, ``reserve`` and ``rooms`` for the consumer's."""

    def __init__(
        self,
        client: redis.Redis,
        name: Callable[[], str],
        queues: Callable[[], Sequence[str]],
        held: Callable[[], Counter[str]],
        changed: Callable[[], None],
    ) -> None:
        """``name`` of this process; ``queues`` that it serves; jobs that it holds, by queue.

        ``changed`` is called when limits have changed.
        """
        self._client = client
        self._new_name = name
        self._name = ""
        self._queues = queues
        self._held = held
        self._changed = changed
        self.limited: frozenset[str] = frozenset()
        """Queues with a limit or a pause, as far as the last look found."""
        self._expected = False
        self._found: Mapping[str, list[Any]] = {}
        self._room: dict[str, int] = {}
        self._beat_at = self._sweep_at = 0.0
        self._lock = threading.Lock()
        self._claims = False
        """Whether places are reserved for a claim that is under way."""

    def expect(self) -> bool:
        """The app has the gem: look often. False where that was known."""
        is_news, self._expected = not self._expected, True
        return is_news

    # -- the consumer's thread

    def reserve(self, held: Counter[str], want: int) -> None:
        """Take places for a claim of at most ``want`` jobs; with 0 give back those that it did not use.

        Raises StoreError.
        """
        with self._lock:
            self._claims = want > 0
            self._room = self._adjusted(held, want)

    def rooms(self, held: Counter[str]) -> Iterator[Room]:
        """The places that the last ``reserve`` has found in each queue."""
        return (Room(frozenset([queue]), jobs) for queue, jobs in self._room.items())

    def _adjusted(self, held: Counter[str], want: int) -> dict[str, int]:
        queues = sorted(self.limited)
        calls = [
            scripts.Call(lua.load("queue_places"), keys.limit_fetch(queue), (self._name, held[queue], want))
            for queue in queues
        ]
        answers = scripts.run(self._client, calls) if calls else []
        raise_first_error(answers)
        return {queue: taken if want else free for queue, (taken, free) in zip(queues, answers, strict=True)}

    # -- its own thread

    def round(self) -> float:
        """Look for limits, and keep the places of this process. Returns seconds until the next look."""
        with outages():
            try:
                self._look()
            except redis.exceptions.NoPermissionError as error:
                logger.debug("the limits of sidekiq-limit_fetch cannot be read: %s", error)
                return NEVER_SECONDS
            if self.limited:
                self._keep_places()
        return LOOK_SECONDS if self._expected or self.limited else DISCOVER_SECONDS

    def _keep_places(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._beat()
        with self._lock:
            if not self._claims:
                self._adjusted(self._held(), 0)

    def leave(self) -> None:
        """This process ends: its places are free at once. Raises StoreError."""
        if self._name:
            with outages():
                pipeline = self._client.pipeline(transaction=False)
                pipeline.delete(keys.limit_fetch_heartbeat(self._name))
                pipeline.srem(keys.LIMIT_FETCH_PROCESSES, self._name)
                pipeline.execute()
                self._drop({self._name})

    def _look(self) -> None:
        queues = list(self._queues())
        names = [key for queue in queues for key in keys.limit_fetch(queue)[2:]]
        values: list[Any] = self._client.mget(names) if names else []
        by_queue = {queue: values[3 * number : 3 * number + 3] for number, queue in enumerate(queues)}
        found = {
            queue: three for queue, three in by_queue.items() if any(value is not None for value in three)
        }
        if found == self._found:
            return
        if found and not self._name:
            self._name = self._new_name()
            logger.info(
                "sidekiq-limit_fetch limits %s: this worker keeps its limits", ", ".join(sorted(found))
            )
        self._found, self.limited = found, frozenset(found)
        if found:
            self._beat()
        self._changed()

    def _beat(self) -> None:
        self._beat_at = time.monotonic() + HEARTBEAT_SECONDS
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(keys.limit_fetch_heartbeat(self._name), 1, ex=HEARTBEAT_TTL_SECONDS)
        pipeline.sadd(keys.LIMIT_FETCH_PROCESSES, self._name)
        pipeline.execute()
        if time.monotonic() >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Drop processes without a heartbeat, and their places."""
        found: Any = self._client.smembers(keys.LIMIT_FETCH_PROCESSES)
        names = sorted(name.decode() for name in found)
        self._sweep_at = time.monotonic() + fleet.rest_seconds(len(names))
        pipeline = self._client.pipeline(transaction=False)
        for name in names:
            pipeline.exists(keys.limit_fetch_heartbeat(name))
        gone = {name for name, lives in zip(names, pipeline.execute(), strict=True) if not lives}
        if gone:
            self._client.srem(keys.LIMIT_FETCH_PROCESSES, *gone)
        self._drop(gone, besides=set(names) - gone)

    def _drop(self, gone: set[str], besides: set[str] | None = None) -> None:
        """Free the places of these processes; with ``besides``, of all but those that live."""
        for queue in self.limited:
            probed, busy = keys.limit_fetch(queue)[:2]
            listed: list[bytes] = self._client.lrange(probed, 0, -1)  # type: ignore[assignment]
            for name in {entry.decode() for entry in listed}:
                if name in gone or (besides is not None and name not in besides):
                    self._client.lrem(probed, 0, name)
                    self._client.lrem(busy, 0, name)
