"""Wake-ups that bring no job: another process is quicker, again and again."""

from __future__ import annotations

import time

#: Wake-ups within this time that found no job, until the poller backs off.
MOST_WAKES = 3
WITHIN_SECONDS = 0.1


class SpuriousWakes:
    """Says when the watches may be armed again. Belongs to the consumer's thread."""

    def __init__(self) -> None:
        self._at: list[float] = []
        self._rearm_at = 0.0

    def note(self) -> None:
        """A watch has woken the poller."""
        now = time.monotonic()
        self._at = [at for at in self._at if now - at < WITHIN_SECONDS] + [now]
        if len(self._at) >= MOST_WAKES:
            self._rearm_at = now + WITHIN_SECONDS / 2

    def forget(self) -> None:
        """A job was found."""
        self._at.clear()

    def may_arm(self, now: float) -> bool:
        """Whether it is time to arm a watch."""
        return now >= self._rearm_at
