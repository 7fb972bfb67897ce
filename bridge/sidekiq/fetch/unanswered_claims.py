"""Claims whose answer has not come: this process does not know which jobs Redis took under their tokens."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds between two looks at what Redis holds for this worker.
LOOK_AGAIN_SECONDS = 5.0


class UnansweredClaims:
    """Remembers tokens from the sending of their claim to its answer. For one thread at a time.

    Redis is asked once: the question also fences every claim that has not been carried out by then
    (``claim_fence.lua``). So the answer is final, however late the network delivers such a claim.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.tokens: set[int] = set()
        """Tokens of claims that are on their way. ``InFlight`` adds and removes them."""
        self._look_at = 0.0
        self.looks = 0
        """Looks that are still to come."""

    @property
    def due(self) -> bool:
        """Whether Redis should be asked what is in flight."""
        return bool(self.tokens) or (self.looks > 0 and self._clock() >= self._look_at)

    def look_now(self) -> None:
        """Ask at the next occasion, and once more a little later: only what is there twice is a stray."""
        self._look_at = 0.0
        self.looks = 2

    def look_soon(self) -> None:
        """The same, unless two looks are ahead anyway."""
        if not self.looks:
            self.look_now()

    def looked(self) -> None:
        """Redis was asked, and has fenced what it did not know then."""
        self.tokens.clear()
        self._look_at = self._clock() + LOOK_AGAIN_SECONDS
        self.looks = max(0, self.looks - 1)

    def __contains__(self, token: int) -> bool:
        return token in self.tokens
