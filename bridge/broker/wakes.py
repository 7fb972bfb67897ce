"""When to claim next: what the watches have told, and wake-ups that bring no job.

Those come where another process is quicker, again and again.
"""

from __future__ import annotations

import time

from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import Fetched

#: A claim each second of a quiet worker would be most of what it costs. So often it is enough to look.
POLLS_WITHOUT_CLAIM = 15

#: Wake-ups within this time that found no job, until the poller backs off.
MOST_WAKES = 3
WITHIN_SECONDS = 0.1
#: The first rest takes half of that time. Each further one without a job takes twice as long, up to this.
LONGEST_REST_SECONDS = 1.0

#: How long what has ended is put off, while the native jobs beside it end as well: all are settled together.
MOMENT_SECONDS = 0.001


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


class NextClaim:
    """Knows what asks for a claim, and when the next one is due. The watches tell it."""

    def __init__(self, poll_seconds: float) -> None:
        self.poll_seconds = poll_seconds
        self.more_expected = True
        """Whether the queues may have more jobs than the last claim has brought."""
        self.poll_at = self.claim_at = 0.0
        """When to look at all queues, and when to do so by a claim even where all are watched."""
        self.seen_tail: tuple[str, bytes] | None = None
        """The job that the last peek has found."""
        self._spurious = SpuriousWakes()
        self.delivered = 0
        """How many jobs the last turn has delivered."""

    def has_ended(self, fetched: Fetched) -> bool:
        """A claim has ended. Returns whether the queues are to be watched now."""
        now = time.monotonic()
        rest = self._spurious.rest_seconds(now, found=bool(fetched.units))
        self.poll_at = now + (rest or self.poll_seconds)
        # A claim learns of paused queues as well, and of those with a job that must wait: while there are
        # some, each poll is a claim.
        self.claim_at = now if fetched.paused else now + self.poll_seconds * POLLS_WITHOUT_CLAIM
        self.more_expected, self.seen_tail = not fetched.drained, None
        return fetched.drained and not rest

    def put_off(self, seconds: float, *, more_expected: bool) -> None:
        """No claim before that time, and ``more_expected`` then."""
        self.more_expected, self.poll_at = more_expected, time.monotonic() + seconds

    def job_came(self, queue: str, payload: bytes) -> None:
        """A peek has found a job: the next claim looks there."""
        self.seen_tail = (queue, payload)
        self.woken()

    def woken(self) -> None:
        """Something asks for a claim."""
        self.more_expected = True
        self._spurious.note()

    def woken_without_job(self) -> None:
        """A peek has timed out: look at everything."""
        self.poll_at = self.claim_at = 0.0
        self._spurious.note()

    def is_cut(self, fetcher: Fetcher, trust: int) -> bool:
        """Whether the last turn has cut a batch: as many jobs as it has delivered have ended, or fewer.

        Settled at once, they would be a batch of their own, and the rest the next, and so on for as long as
        jobs wait. True once after each such turn.
        """
        delivered, self.delivered = self.delivered, 0
        return trust > 0 and 0 < len(fetcher.journal.waiting) <= delivered and bool(fetcher.in_flight.held)
