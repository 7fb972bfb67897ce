"""One selector and one heap of timers for all workers of a crowd."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bridge.event_loop import Callback, EventLoop

#: A signal is heeded after this time at the latest.
LONGEST_WAIT_SECONDS = 0.1


class Loop:
    """For one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callback]] = []
        self._numbers = itertools.count()
        self._soon: dict[Callback, None] = {}

    def watch(self, sock: Any, readable: Callback) -> None:
        """Call ``readable`` whenever the socket can be read."""
        try:
            self._selector.modify(sock, selectors.EVENT_READ, readable)
        except (KeyError, ValueError):
            self._selector.register(sock, selectors.EVENT_READ, readable)

    def unwatch(self, sock: Any) -> None:
        """A socket that is closed or unknown is fine."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def call_in(self, seconds: float, callback: Callback) -> None:
        """Once, after this time."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), callback))

    def every(self, work: Callable[[], float], first_in: float = 0.0) -> None:
        """Again and again: ``work`` returns the seconds to its next round."""

        def round_() -> None:
            self.call_in(work(), round_)

        self.call_in(first_in, round_)

    def call_soon(self, callback: Callback) -> None:
        """Once, after the sockets that are ready now; twice asked is once called."""
        self._soon[callback] = None

    def run(self, until: Callable[[], object]) -> None:
        """Turn until the condition is true."""
        while not until():
            for key, _ in self._selector.select(self._wait()):
                key.data()
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
            soon, self._soon = self._soon, {}
            for callback in soon:
                callback()

    def _wait(self) -> float:
        if self._soon:
            return 0.0
        due = self._timers[0][0] - time.monotonic() if self._timers else LONGEST_WAIT_SECONDS
        return min(max(due, 0.0), LONGEST_WAIT_SECONDS)


class Part(EventLoop):
    """The event loop of one worker, whose sockets are in the selector that all workers share.

    ``ready`` is called after each of its sockets: it is the worker's turn.
    """

    def __init__(self, loop: Loop, ready: Callback) -> None:
        # Not the base's: two selectors and two sockets for each of many workers.
        self._loop = loop
        self._ready = ready
        self.soon = deque()

    def watch(self, sock: Any, readable: Callback, writable: Callback | None = None) -> None:
        """Readable only: no worker without a sidecar waits to write."""

        def called() -> None:
            readable()
            self._loop.call_soon(self._ready)

        self._loop.watch(sock, called)

    def unwatch(self, sock: Any) -> None:
        """As the base."""
        self._loop.unwatch(sock)

    def wake(self) -> None:
        """Nothing to end: the turn follows."""

    def interrupt(self) -> None:
        """The same."""

    def linger(self, seconds: float) -> None:
        """One worker of many may not let all others wait."""
