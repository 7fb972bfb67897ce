"""The threads that run native tasks, and the runs that wait for one.

Waking a thread costs more than a small job. So a run that comes in wakes one thread only. A thread that
takes a run wakes the next one only while there is more to take and no thread is on its way already. A task
that waits for something lets the woken thread go on, which wakes another: soon all slots are in use. A task
that does not wait is followed by the next on the same thread, since Python runs one of them at a time.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


Run = Callable[[], None]
"""One run of a task, to its end. Raises nothing."""


class NativeThreads:
    """A queue, and as many threads as are needed up to the limit. No Future for each job."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._runs: deque[Run] = deque()
        self._idle: list[threading.Lock] = []
        """The lock that each idle thread waits for; the last to fall asleep is last, its caches are warm."""
        self._on_its_way = False
        self._stopping = False
        self.count = 0
        self.busy = 0

    def submit(self, run: Callable[..., None], *subject: Any) -> None:
        """Call ``run`` with ``subject`` in a thread. It raises nothing.

        Raises RuntimeError where the system gives not even one thread.
        """
        with self._lock:
            self.busy += 1
            self._runs.append(functools.partial(run, *subject))
            try:
                self._wake_one()
            except RuntimeError:
                # No thread will ever run it: the caller must do something else with it.
                self._runs.pop()
                self.busy -= 1
                raise

    def resize(self, limit: int) -> None:
        """Start no more threads than that from now on. Those that are there stay: idle ones cost nothing."""
        with self._lock:
            self._limit = limit
            if self._runs:
                self._wake_one()

    def stop(self) -> None:
        """End the threads; busy ones end after their run."""
        with self._lock:
            self._stopping = True
            while self._idle:
                self._idle.pop().release()

    def _wake_one(self) -> None:
        if self._on_its_way:
            return
        if self._idle:
            self._on_its_way = True
            self._idle.pop().release()
        elif self.count < self._limit:
            self._start_one()

    def _start_one(self) -> None:
        name = f"bridge-native-{self.count + 1}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError as error:
            if not self.count:
                raise
            # Those that are there take what waits, one after the other.
            logger.warning("only %d of %d threads for native tasks: %s", self.count, self._limit, error)
            return
        self._on_its_way = True
        self.count += 1

    def _work(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        arriving = True
        while (run := self._take(bell, arriving)) is not None:
            arriving = False
            try:
                run()
            finally:
                with self._lock:
                    self.busy -= 1

    def _take(self, bell: threading.Lock, arriving: bool) -> Run | None:
        """The next run, or None when there will be no more; waits for it."""
        while True:
            with self._lock:
                if arriving:
                    self._on_its_way = False
                if self._runs:
                    run = self._runs.popleft()
                    if self._runs:
                        self._wake_one()
                    return run
                if self._stopping:
                    return None
                self._idle.append(bell)
            bell.acquire()
            arriving = True
