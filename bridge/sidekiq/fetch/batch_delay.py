"""How long a slot that came free may stay unnoticed: the batch delay, from the waits of the last jobs.

Where Ruby computes, ten jobs share one processor, and a new one waits until nine others are done. To settle
and to claim for each that ends would wake three cold processes each time, on the same processors: a fifth of
the work of jobs of 5 ms.
"""

from __future__ import annotations

from collections import deque

#: Samples needed before the batch delay applies.
LOOKED_AT = 16
#: A free slot is filled after less than half of what its next job would wait there anyway.
SHARE = 0.4
SHORTEST_SECONDS = 0.001
LONGEST_SECONDS = 0.02


def seconds(slot_waits: deque[float]) -> float:
    """How long the next look may wait: 0, or 1 to 20 ms.

    ``slot_waits``: how long each of the last jobs waited for a thread of the sidecar, in seconds.
    """
    waits = tuple(slot_waits)  # other threads add to it, and clear it
    if len(waits) < LOOKED_AT:
        return 0.0
    share = min(waits) * SHARE
    return min(share, LONGEST_SECONDS) if share >= SHORTEST_SECONDS else 0.0
