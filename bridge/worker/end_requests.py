"""A worker notes here what signals ask of it: to end, to end at once, to start again."""

from __future__ import annotations

import time

from bridge.errors import EX_SOFTWARE

RESTART = "SIGHUP"


class EndRequests:
    """Notes of the signals that end this worker.

    Python may run the handler of one signal between any two steps of another one. So a note is added in one
    step, and no note is ever changed: each answer is the same in whatever order the notes came.
    """

    def __init__(self, soft_seconds: float = 0.0) -> None:
        """``soft_seconds``: how long the first signal to end at once still waits for running jobs."""
        self._soft_seconds = soft_seconds
        self._signals: list[str] = []
        self._statuses: list[int] = []
        self._cold_at: list[float] = []
        """Monotonic times of the signals to end at once."""

    def add(self, signal: str, how: str, status: int) -> None:
        """Note a signal. ``how`` is ``Warm`` or ``Cold``; ``status`` is the exit status that it asks for."""
        self._signals.append(signal)
        self._statuses.append(status)
        if how == "Cold":
            self._cold_at.append(time.monotonic())

    @property
    def is_cold(self) -> bool:
        """Whether jobs are given back without a wait: after the second such signal, or the soft time."""
        times = self._cold_at
        return len(times) > 1 or (bool(times) and time.monotonic() >= times[0] + self._soft_seconds)

    @property
    def restarts(self) -> bool:
        """Whether each signal was HUP. systemd and terminals add a HUP to a TERM."""
        return set(self._signals) == {RESTART}

    @property
    def status(self) -> int:
        """The exit status: of the last signal, unless this worker has given up."""
        if EX_SOFTWARE in self._statuses:
            return EX_SOFTWARE
        return self._statuses[-1] if self._statuses else 0
