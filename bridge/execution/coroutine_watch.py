"""Notices a coroutine that blocks the event loop: all the others wait for it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from bridge.execution.coroutine_run import CoroutineRun

logger = logging.getLogger(__name__)

#: A loop that does nothing else for this long is blocked.
BLOCKED_SECONDS = 1.0


class CoroutineWatch:
    """Looks once a second while coroutines run, in a thread of its own: the loop's cannot say it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, thread: threading.Thread, running: Callable[[], int]
    ) -> None:
        self._loop, self._thread, self._running = loop, thread, running

    def start(self) -> None:
        """Begin; ends with the loop's thread."""
        threading.Thread(target=self._watch, name="bridge-coroutine-watch", daemon=True).start()

    def _watch(self) -> None:
        while self._thread.is_alive():
            if self._running():
                self._look()
            time.sleep(BLOCKED_SECONDS)

    def _look(self) -> None:
        ticked = threading.Event()
        began = time.monotonic()
        self._loop.call_soon_threadsafe(ticked.set)
        if ticked.wait(BLOCKED_SECONDS):
            return
        logger.warning(
            "%s blocks the event loop at %s: all other coroutines wait. "
            "Await the call, or move it into asyncio.to_thread()",
            *self._culprit(),
        )
        ticked.wait()
        logger.warning("the event loop goes on; it was blocked for %.1f s", time.monotonic() - began)

    def _culprit(self) -> tuple[str, str]:
        frame = sys._current_frames().get(self._thread.ident or 0)
        return _job_of(frame), _place_of(frame)


def _job_of(frame: FrameType | None) -> str:
    while frame is not None:
        if frame.f_code is CoroutineRun.__await__.__code__:
            return str(frame.f_locals["self"])
        frame = frame.f_back
    return "a child task of a coroutine"


def _place_of(frame: FrameType | None) -> str:
    return "an unknown place" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
