"""Backing off: the pauses between attempts while Redis does not answer."""

from __future__ import annotations

import logging

from bridge import errors

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0


class BackOff:
    """Belongs to the consumer's thread."""

    def __init__(self) -> None:
        self.pause = 0.0
        """Seconds between two attempts; 0 while Redis answers."""
        self.claims_fail = False
        """Whether it was a claim that failed last. Never set without a pause."""

    def failed(self, error: errors.StoreError, claim: bool) -> None:
        """An attempt has failed: the next pause is longer."""
        if not self.pause:
            is_outage = isinstance(error, errors.StoreUnavailable)
            level = logging.WARNING if is_outage else logging.ERROR
            logger.log(level, "fetching stops: %s; running jobs go on, trying again until it works", error)
        self.pause = min(LONGEST_PAUSE_SECONDS, self.pause * 2 or FIRST_PAUSE_SECONDS)
        self.claims_fail = claim

    def recovered(self, claim: bool) -> None:
        """An attempt has succeeded; ``claim``: a claim."""
        if self.claims_fail and not claim:
            # A settlement got through, and claims may fail still: to say so at each would flood the log.
            return
        self.pause, self.claims_fail = 0.0, False
        logger.warning("fetching goes on: Redis is back")
