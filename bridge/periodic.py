"""A thread that does one thing again and again until it is told to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from bridge import errors

logger = logging.getLogger(__name__)


class Periodic:
    """Calls ``work`` repeatedly; it returns how many seconds to wait before the next call.

    An outage of Redis is reported once when it begins and once when it ends, and never ends the thread.
    """

    def __init__(
        self, name: str, work: Callable[[], float], *, pause_after_error_seconds: float = 1.0
    ) -> None:
        self.name = name
        self._work = work
        self._pause = pause_after_error_seconds
        self._wake = threading.Event()
        self._stopping = False
        self._down = False
        self.succeeded_at: float | None = None
        """Monotonic time at which the last round ended that came to its end."""
        self.steady_since: float | None = None
        """Monotonic time since which no round has met an outage; None while one lasts."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"bridge-{self.name}", daemon=True)
            self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Ask the thread to end, and wait for it a bounded time: its work may hang on a dead server."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)

    def nudge(self) -> None:
        """Do the next round now."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(min(self._round(), threading.TIMEOUT_MAX))
            self._wake.clear()

    def _round(self) -> float:
        try:
            pause = self._work()
        except errors.StoreUnavailable as error:
            return self._note_outage(error)
        except Exception:
            # A fault in one round (an unforeseen payload) must not end the heartbeat or the scheduler for
            # good.
            logger.exception("%s: this round failed, the next one comes in %.1f s", self.name, self._pause)
            return self._pause
        self._note_success()
        return pause

    def _note_success(self) -> None:
        self.succeeded_at = time.monotonic()
        if self.steady_since is None:
            self.steady_since = self.succeeded_at
        if self._down:
            self._down = False
            logger.info("%s: Redis is back", self.name)

    def _note_outage(self, error: errors.StoreUnavailable) -> float:
        self.steady_since = None
        if not self._down:
            self._down = True
            logger.warning(
                "%s: Redis cannot answer (%s); trying again every %.1f s", self.name, error, self._pause
            )
        return self._pause
