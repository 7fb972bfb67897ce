"""The bridge's own pool: Ruby tasks in greenlets on the consumer's thread, native ones in threads.

A Ruby task only waits for the sidecar; a thread for each would cost more than the job. It is traced in a
greenlet, which parks
while the sidecar works. A native task never runs on the consumer's thread: one that blocks would stop the
fetching.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import greenlet
from celery.concurrency.base import BasePool, apply_target

from bridge.broker import waiter
from bridge.broker.messages import RUBY_TASK
from bridge.retries import JobCancelled
from bridge.sidecar.parking import Parkable

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.1


class TaskPool(BasePool):
    """The pool that is used when -P is absent; ``limit`` jobs of both kinds together, by prefetch."""

    body_can_be_buffer = True
    signal_safe = False

    def on_start(self) -> None:
        """Take over the consumer's thread, which this is."""
        self._waiter = waiter.current()
        self._parked = 0
        self._native = NativeThreads(self.limit)
        self.app.bridge.stream_from(self._waiter, self.limit)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> None:
        """Run a task."""
        if args[0] == RUBY_TASK:
            self._run_parkable(target, args, kwargs, callback, accept_callback)
        else:
            self._native.submit((target, args, kwargs, callback, accept_callback))

    def on_stop(self) -> None:
        """Wait for what runs. This is the consumer's thread, so its loop must go on meanwhile."""
        while self._parked or self._native.busy:
            self._waiter.wait(LOOK_SECONDS)
        self._native.stop()

    def on_terminate(self) -> None:
        """Cold shutdown: the lifecycle has given the jobs back."""

    @property
    def num_processes(self) -> int:
        """Slots."""
        return int(self.limit)

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()  # type: ignore[misc]
        info.update({"max-concurrency": self.limit, "parked": self._parked, "threads": self._native.count})
        return info

    def _run_parkable(self, *call: Any) -> None:
        self._parked += 1
        Parkable(self._trace, greenlet.getcurrent()).switch(*call)

    def _trace(self, *call: Any) -> None:
        try:
            _apply(*call)
        finally:
            self._parked -= 1


class NativeThreads:
    """A queue and as many threads as are needed, up to the limit. No Future for each job."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self.count = 0
        self.busy = 0

    def submit(self, call: tuple[Any, ...]) -> None:
        """Run this in a thread."""
        with self._lock:
            self.busy += 1
            grow = self.busy > self.count and self.count < self._limit
            self.count += grow
            name = f"bridge-native-{self.count}"
        self._queue.put(call)
        if grow:
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def stop(self) -> None:
        """End the threads."""
        for _ in range(self.count):
            self._queue.put(None)

    def _work(self) -> None:
        while (call := self._next()) is not None:
            try:
                _apply(*call)
            finally:
                with self._lock:
                    self.busy -= 1

    def _next(self) -> tuple[Any, ...] | None:
        while True:
            try:
                return self._queue.get()
            except JobCancelled:
                # Raised from outside for a job that had just ended: the thread is needed all the same.
                continue


def _apply(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    callback: Callable[..., Any],
    accept_callback: Callable[..., Any],
) -> None:
    try:
        apply_target(
            target, args, kwargs, callback, accept_callback, pid=os.getpid(), monotonic=time.monotonic
        )
    except BaseException:
        # The tracer turns every error of a task into a result; what arrives here is a fault of ours or of
        # Celery, and
        # it must cost neither the thread nor the loop.
        logger.exception("a task could not be run to its end")
