"""How long jobs wait behind their slots, and so how long a slot that came free may stay unnoticed."""

from __future__ import annotations

from collections import deque

from bridge.sidekiq.fetch.unit_of_work import UnitOfWork

#: Samples needed before the batch delay applies.
LOOKED_AT = 16
#: A free slot is filled after less than half of what its next job would wait there anyway.
SHARE = 0.4
SHORTEST_SECONDS = 0.001
LONGEST_SECONDS = 0.02


class BatchDelay:
    """Notes how long the last jobs waited for a thread of the sidecar. Called by any thread.

    Where Ruby computes, ten jobs share one processor, and a new one waits until nine others are done. To
    settle and to claim for each that ends would wake three cold processes each time, on the same processors:
    a fifth of the work of jobs of 5 ms.
    """

    def __init__(self) -> None:
        self._waits: deque[float] = deque(maxlen=LOOKED_AT)

    def note(self, unit: UnitOfWork) -> None:
        """A slot let go of this job. One that did not wait, or cannot tell, ends the delay."""
        if unit.run_ms is None or unit.run_seconds is None:
            self._waits.clear()
        else:
            self._waits.append(unit.run_seconds - unit.run_ms / 1000)

    @property
    def seconds(self) -> float:
        """How long the next look may wait: none, or 1 to 20 ms."""
        waits = tuple(self._waits)  # others add to it, and clear it
        if len(waits) < LOOKED_AT:
            return 0.0
        share = min(waits) * SHARE
        return min(share, LONGEST_SECONDS) if share >= SHORTEST_SECONDS else 0.0
