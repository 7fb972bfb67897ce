"""Wake-ups that bring no job: another process is quicker, again and again."""

from __future__ import annotations

import time

#: Wake-ups within this time that found no job, until the poller backs off.
MOST_WAKES = 3
WITHIN_SECONDS = 0.1
#: The first rest takes half of that time. Each further one without a job takes twice as long, up to this.
LONGEST_REST_SECONDS = 1.0


class SpuriousWakes:
    """Says when the watches may be armed again. Belongs to the consumer's thread."""

    def __init__(self) -> None:
        self._at: list[float] = []
        self._rearm_at = 0.0
        self._rest = 0.0
        """Seconds of the last rest; 0 after a job."""

    def note(self) -> None:
        """A watch has woken the poller."""
        now = time.monotonic()
        self._at = [at for at in self._at if now - at < WITHIN_SECONDS] + [now]
        if now - self._rearm_at > LONGEST_REST_SECONDS:
            self._rest = 0.0
        if len(self._at) >= MOST_WAKES:
            self._rest = min(LONGEST_REST_SECONDS, self._rest * 2 or WITHIN_SECONDS / 2)
            self._rearm_at = now + self._rest

    def rest_seconds(self, now: float, *, found: bool) -> float:
        """Until a watch may be armed. ``found``: the last wake-up has brought a job.

        Then it does not rest. Of all processes that watch, the quickest one watches on: the others
        may rest.
        """
        if found:
            self._at.clear()
            self._rearm_at = self._rest = 0.0
        return max(0.0, self._rearm_at - now)
