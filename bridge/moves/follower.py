"""Follows the moves in Redis: a change is heeded within half a second, and nothing is asked meanwhile.

Redis tells of a change (``CLIENT TRACKING``). While no class moves, the thread sleeps until then. A worker
that may not ask for that reads the hash every half second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import redis

from bridge import errors, event_loop
from bridge.event_loop import EventLoop
from bridge.moves.guard import Guard, Seen
from bridge.moves.move import PYTHON, RUBY, Move
from bridge.moves.runs import NUMBERS, Runs
from bridge.moves.shadow import Shadows
from bridge.moves.store import Moves, MoveStore
from bridge.redis.client_tracking import TRUST_SECONDS, ClientTracking
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.store.settlement import RECOVERED_TTL_SECONDS

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
ASK_SECONDS = 0.5
"""Between two reads, where Redis does not tell of changes."""
#: Counts go to Redis that often, and the guard judges them.
FLUSH_SECONDS = 2.0

Heed = Callable[[Moves, Moves], None]
_KEYS = (keys.MOVES,)
#: Fields of the counts, in the order of ``Seen``.
_SEEN = [
    f"{side}|{name}" for names in (NUMBERS[:2], NUMBERS[2:]) for side in (PYTHON, RUBY) for name in names
]


class MoveFollower:
    """The moves as this worker knows them. ``round`` belongs to one thread."""

    def __init__(self, store: MoveStore, runs: Runs, shadows: Shadows, heed: Heed) -> None:
        """``heed`` is called with all moves at each change, and with those that have finished."""
        self._store = store
        self._runs = runs
        self._shadows = shadows
        self._heed = heed
        self.moves: Moves = {}
        self.taken_back = 0
        """How often this worker's guard has taken a class back."""
        self._tracking: ClientTracking | None = None
        self._event_loop: EventLoop | None = None
        """Of the thread that follows."""
        self._is_ending = False
        self._may_track = True
        self._guards: dict[str, Guard] = {}
        self._read_at = self._flushed_at = -ASK_SECONDS
        self._finished: Moves = {}

    def round(self) -> float:
        """Heed a change, if there is one. Returns seconds to the next look. Raises StoreUnavailable.

        While no class moves, it first waits until Redis tells of a change.
        """
        self._sleep()
        if self._has_news():
            self.read()
        if self.moves and time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self._flushed_at = time.monotonic()
            self._runs.flush(self._store.client)
            self._shadows.flush()
            self._judge()
        return LOOK_SECONDS

    def read(self) -> None:
        """Ask Redis for the moves, and heed them. Raises StoreUnavailable."""
        before, self._read_at = self.moves, time.monotonic()
        try:
            self.moves, finished = self._store.read()
        except errors.StoreUnavailable:
            raise
        except errors.StoreError as error:  # a key of another type, or a user without the right to read it
            logger.error("the moves in %s cannot be read, and stay as they are: %s", keys.MOVES, error)
            return
        if before != self.moves or finished != self._finished:
            self._finished = finished
            self._heed(self.moves, finished)
            for name in sorted(before.keys() | self.moves.keys()):
                _tell(name, before.get(name), self.moves.get(name))
            self._forget(finished)

    def close(self) -> None:
        """The worker ends: write what was counted."""
        self._drop()
        self._shadows.stop()
        try:
            self._runs.flush(self._store.client)
            self._shadows.flush()
        except errors.StoreError as error:  # counts of a few seconds; no job depends on them
            logger.debug("the last counts of moves were not written: %s", error)

    def interrupt(self) -> None:
        """The worker ends: sleep no more. For any thread."""
        self._is_ending = True
        if self._event_loop is not None:
            self._event_loop.wake()

    def _forget(self, finished: Moves) -> None:
        """Remove the moves that finished long ago: no sidecar runs a job of theirs."""
        oldest_ms = (time.time() - RECOVERED_TTL_SECONDS) * 1000
        for move in finished.values():
            if move.changed_ms < oldest_ms:
                self._store.forget(move)

    # -- changes

    def _sleep(self) -> None:
        tracking = self._tracking
        if self.moves or tracking is None or not tracking.watches(_KEYS) or tracking.has_news():
            return
        self._event_loop = loop = event_loop.current()
        loop.watch(sock := tracking.socket, lambda: None)
        try:
            loop.wait(0.0 if self._is_ending else TRUST_SECONDS)
        finally:
            loop.unwatch(sock)

    def _has_news(self) -> bool:
        if not self._may_track:
            return time.monotonic() - self._read_at >= ASK_SECONDS
        try:
            tracking = self._tracking = self._tracking or ClientTracking(self._store.client)
            if tracking.watches(_KEYS):
                return tracking.has_news() and self._arm(tracking)
            return self._arm(tracking)
        except redis.ResponseError as error:
            logger.debug("cannot watch the moves, so they are read: %s", error)
            self._may_track = False
        except (redis.RedisError, OSError, ValueError):
            self._drop()  # the read that follows meets the same outage, and reports it
        return True

    def _arm(self, tracking: ClientTracking) -> bool:
        """Watch from now on; before the read, so that nothing falls between."""
        return tracking.arm(_KEYS) or bool(self.moves)

    def _drop(self) -> None:
        if self._tracking is not None:
            self._tracking.close()
        self._tracking = None

    # -- the guard

    def _judge(self) -> None:
        guarded = [m for m in self.moves.values() if m.guard and m.percent and not m.is_back]
        if not guarded:
            return
        with outages():
            pipeline = self._store.client.pipeline(transaction=False)
            for move in guarded:
                pipeline.hmget(keys.move_runs(move.job_class, move.since_ms), _SEEN)
            found = pipeline.execute()
        for move, counts in zip(guarded, found, strict=True):
            seen = Seen(time.monotonic(), *(int(count or 0) for count in counts))
            reason = self._guards.setdefault(move.job_class, Guard()).objection(move, seen)
            if reason is not None:
                self._take_back(move, reason)

    def _take_back(self, move: Move, reason: str) -> None:
        def back(before: Move | None, now_ms: int) -> Move | None:
            if before is None or before.since_ms != move.since_ms or before.is_back:
                return before  # another worker's guard, or a person, was faster
            return before.at(now_ms, percent=0.0, shadow=0.0, is_back=True, reason=reason)

        try:
            self._store.change(move.job_class, back)
        except errors.MoveConflict:
            return  # the change will be read, and judged again
        self.taken_back += 1
        logger.error(
            "the guard took %s back to Ruby: %s. "
            "Correct the task, then begin again with `bridge move %s --percent 5`",
            move.job_class,
            reason,
            move.job_class,
        )
        self.read()


def _tell(name: str, before: Move | None, now: Move | None) -> None:
    """One line about a change that matters to jobs."""
    if now is None:
        logger.info("%s moves no more: a native task runs all its jobs, and Ruby runs them without one", name)
    elif now.is_back and (before is None or not before.is_back):
        logger.warning("%s is back in Ruby%s", name, f": {now.reason}" if now.reason else "")
    elif before is None or before.percent != now.percent:
        logger.info("%s moves: %g %% of its jobs run in Python", name, now.percent)
