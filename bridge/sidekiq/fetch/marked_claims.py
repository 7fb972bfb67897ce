"""Claims of jobs with limits. Redis notes them until their worker has asked for the places of the jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from bridge.sidekiq import keys
from bridge.sidekiq.store.claims import ClaimMark

#: Seconds for which no watch takes from a queue in which a job has brought its limit along.
REMEMBERED_SECONDS = 600.0


class MarkedClaims:
    """Belongs to the consumer's thread. Without limits nothing is noted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.marks: tuple[str, ...] = ()
        """Texts in the payloads of jobs with a limit, and ``queue:<name>``."""
        self._queues: dict[str | None, float] = {}
        """Queues with such jobs, and until when; None: any queue may have some."""
        self.shared = False
        """Whether processes of Sidekiq take jobs from the same queues: Redis does not tell when."""
        self.noted: list[ClaimMark] = []
        """Claims that Redis has noted, whose jobs have not been asked for yet."""

    def add(self, marks: Iterable[str], queues: Iterable[str | None], seconds: float = float("inf")) -> None:
        """Note claims of jobs with these marks. They may be in these queues; None: in any."""
        self.marks = tuple(dict.fromkeys((*self.marks, *marks)))
        self._queues |= dict.fromkeys(queues, self._clock() + seconds)

    def may_be_in(self, queue: str) -> bool:
        """Whether jobs with limits may be in this queue.

        A watch must not take them: the order in which Redis serves watches and claims is not known. Beside
        processes of Sidekiq it may, for the order is not known there. They would take all jobs of a worker
        that looks first.
        """
        if not self.marks or self.shared:
            return False
        until = max(self._queues.get(queue, 0.0), self._queues.get(None, 0.0))
        return self._clock() < until

    def count(self, queue: str, payloads: Iterable[bytes]) -> int:
        """How many of the jobs may have a limit; as ``claim_marked.lua`` counts."""
        texts = [mark.encode() for mark in self.marks]
        is_queue = keys.queue(queue).encode() in texts
        return sum(is_queue or any(text in payload for text in texts) for payload in payloads)

    def pop(self) -> list[ClaimMark]:
        """The marks of the claims whose jobs are at hand, once."""
        noted, self.noted = self.noted, []
        return noted
