"""Compares Redis' TIME with a clock of this machine that is never set."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

Clock = Callable[[], float]

#: Seconds on a clock that is never set. It also counts while the machine sleeps, if the system has such a
#: clock: Redis' clock goes on meanwhile. Not a function of Python's: each job asks it.
steady: Clock = (
    functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)


class RedisClock:
    """For one thread. All times in ms; ``tolerance_ms`` is the jump that harms no lease."""

    def __init__(self, tolerance_ms: float, clock: Clock = steady) -> None:
        self._tolerance = tolerance_ms
        self._clock = clock
        self._ahead: tuple[float, float] | None = None
        """Redis' TIME less our clock: at least, at most. They differ by the time the answer took."""

    def begin(self) -> float:
        """To be asked before Redis is."""
        return self._clock() * 1000

    def compare(self, told: float, began: float) -> float:
        """Redis ``told`` its TIME; the question went out at ``began``.

        Returns by how much Redis' clock has jumped since the last comparison; 0 for no jump.
        """
        least, most = told - self._clock() * 1000, told - began
        if most - least > self._tolerance:
            return 0.0  # the answer was too slow to say anything; scripts that judge leases look themselves
        before, self._ahead = self._ahead or (least, most), (least, most)
        if least > before[1] + self._tolerance:
            return least - before[1]
        return min(0.0, most - before[0]) if most < before[0] - self._tolerance else 0.0

    @property
    def now_ms(self) -> float | None:
        """Redis' TIME at the latest; None where it was never asked."""
        return None if self._ahead is None else self._clock() * 1000 + self._ahead[1]

    @property
    def window(self) -> tuple[float, float]:
        """First and last TIME at which a command that is sent now may run. Empty where Redis was never asked.

        A command that runs outside of it met a jump of Redis' clock, or arrived late.
        """
        if self._ahead is None:
            return 1.0, 0.0
        now = self._clock() * 1000
        return now + self._ahead[0] - self._tolerance, now + self._ahead[1] + self._tolerance
