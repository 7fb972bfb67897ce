"""Signals that the main thread does not get to, because a job blocks it: the solo pool.

Python runs a handler between two instructions of the main thread. A job of the solo pool that is in one call
of C keeps the handler waiting; a signal that comes just before a system call does, too. So a thread of its
own reads each signal's number, and ends the worker where the handler has not run.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable

#: How long the handler may take to run.
HANDLER_SECONDS = 0.5
HANDLER, WATCH = "handler", "watch"


class SignalWatch:
    """Made by the main thread. ``late`` is called in place of a handler that did not run.

    Its arguments are the number of the signal, and how often this signal has come.
    """

    def __init__(self, numbers: Iterable[int], late: Callable[[int, int], None]) -> None:
        self._handled = {number: itertools.count() for number in numbers}
        self._seen = {number: itertools.count() for number in numbers}
        self._claims: dict[tuple[int, int], str] = {}
        """Who acts on a signal: its number, and how many of this number came before it."""
        self._late = late
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=_forget)
        threading.Thread(target=self._run, name="bridge-signals", daemon=True).start()

    def claim(self, number: int) -> bool:
        """A handler runs, in the main thread. Returns whether it acts: ``late`` has not done so.

        A handler may run inside another one of the same signal, so each step here is one step of Python's.
        """
        return self._claims.setdefault((number, next(self._handled[number])), HANDLER) is HANDLER

    def _run(self) -> None:
        while read := os.read(self._reader, 1):
            number = read[0]
            if number in self._seen:
                before = next(self._seen[number])
                time.sleep(HANDLER_SECONDS)
                if self._claims.setdefault((number, before), WATCH) is WATCH:
                    self._late(number, before + 1)


def _forget() -> None:
    """A child's signals are not its parent's."""
    signal.set_wakeup_fd(-1)
