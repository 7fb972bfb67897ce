"""Claims whose answer has not come: what is in flight under their tokens, this process knows nothing of."""

from __future__ import annotations

import time
from collections.abc import Callable

#: How long after it was sent a claim may still be carried out, and how often its jobs are looked for. A claim
#: can lie in a frozen server's buffers and be carried out after the connection was given up.
LATE_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 5.0


class RolledBackJobs:
    """Tokens that Redis holds for this process, which has settled them long ago: Redis has lost a while.

    One look is not enough, because a job that is being settled stands in Redis a little longer than here.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def seen_again(self, tokens: set[int]) -> set[int]:
        """Those of ``tokens`` that were there at the last look already."""
        again = tokens & self._seen
        self._seen = tokens - again
        return again


class UnansweredClaims:
    """Remembers tokens from the sending of their claim to its answer. For one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[int, float] = {}
        self._look_at = 0.0
        self._looks = 0

    def sent(self, first: int, count: int) -> None:
        """A claim with these tokens is on its way."""
        until = self._clock() + LATE_SECONDS
        self._until.update((token, until) for token in range(first, first + count))

    def answered(self, first: int, count: int) -> None:
        """It is known what became of these tokens."""
        for token in range(first, first + count):
            self._until.pop(token, None)

    @property
    def due(self) -> bool:
        """Whether Redis should be asked what is in flight."""
        return bool(self._until or self._looks) and self._clock() >= self._look_at

    def look_now(self) -> None:
        """Ask at the next occasion, and once more a little later: only what is there twice is a stray."""
        self._look_at = 0.0
        self._looks = 2

    def looked(self) -> None:
        """Redis was asked: again a little later, and some time after the claim no more."""
        now = self._clock()
        self._until = {token: until for token, until in self._until.items() if until > now}
        self._look_at = now + LOOK_AGAIN_SECONDS
        self._looks = max(0, self._looks - 1)

    def __contains__(self, token: int) -> bool:
        return token in self._until
