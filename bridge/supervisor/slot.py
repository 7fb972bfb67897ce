"""One place among the supervised processes: the process that fills it, and when the next one starts."""

from __future__ import annotations

import time
from collections.abc import Callable

from bridge.supervisor.processes import Child
from bridge.supervisor.programs import Program

#: Pauses before a restart: they double while processes die young.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
#: A process that was ready for this long is replaced at once.
SOUND_SECONDS = 10.0


class Slot:
    """Keeps one process of a program running."""

    def __init__(self, program: Program, start: Callable[[Program], Child], number: int = 0) -> None:
        self.program, self.number = program, number
        self._start = start
        self.child: Child | None = None
        self.next_start = 0.0
        self._pause = FIRST_PAUSE_SECONDS

    @property
    def is_ready(self) -> bool:
        """Whether its process is ready."""
        return self.child is not None and self.child.is_ready

    def fill(self, now: float) -> None:
        """Start the process if it is time."""
        if self.child is None and now >= self.next_start:
            self.child = self._start(self.program)

    def take(self, child: Child) -> Child | None:
        """Let ``child`` fill this slot. Gives the process that did so."""
        former, self.child, self.program = self.child, child, child.program
        return former

    def ended(self, child: Child) -> float:
        """Note the end of its process. Gives the seconds until the next one starts."""
        now = time.monotonic()
        self.child = None
        if child.ready_at is not None and now - child.ready_at >= SOUND_SECONDS:
            self._pause, wait = FIRST_PAUSE_SECONDS, 0.0
        else:
            wait, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self.next_start = now + wait
        return wait
