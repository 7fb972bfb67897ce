"""Writes job lines in batches: with a system call for each, threads hand the interpreter about."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from typing import Any

from bridge.monitoring.logs import job_lines

#: How long a line of a job waits at most; each has its own time, and any other line takes them along.
WAIT_SECONDS = 0.05
MOST_LINES = 1000


class Batching(logging.Handler):
    """Formats at once and hands on to ``target``: job lines together, in order before any other line."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        target.handleError = self.handleError  # type: ignore[method-assign]
        self._lines: list[str] = []
        self._waiting = threading.Event()
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._forget)

    @property
    def stream(self) -> Any:
        """The stream of ``target``: the process of ``-B`` closes every other file that it inherits."""
        return getattr(self._target, "stream", None)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line, or write it with those that wait. Called under the handler's lock."""
        try:
            self._lines.append(self.format(record))
        except (
            Exception
        ):  # as logging's own handlers: a line that cannot be formatted is reported, never raised
            self.handleError(record)
        if record.name != job_lines.logger.name or len(self._lines) >= MOST_LINES:
            self.flush()
        elif not self._waiting.is_set():
            self._flush_soon()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Report a line that cannot be written, unless the report's own stream is closed."""
        with contextlib.suppress(ValueError, OSError):
            super().handleError(record)

    def flush(self) -> None:
        """Write what waits."""
        with self.lock or threading.RLock():
            self._waiting.clear()
            lines, self._lines = self._lines, []
            if lines:
                self._target.handle(logging.makeLogRecord({"msg": "\n".join(lines)}))

    def _flush_soon(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="bridge-log", daemon=True)
            self._thread.start()
        self._waiting.set()

    def _run(self) -> None:
        while self._waiting.wait():
            time.sleep(WAIT_SECONDS)
            self.flush()

    def _forget(self) -> None:
        """In a pool process: the parent writes its lines itself, and its thread is not here."""
        self._lines, self._thread, self._waiting = [], None, threading.Event()
