"""Whether a worker still moves. Imports nothing: the keeper of the lease is a small process."""

from __future__ import annotations

#: A worker that has come no further within this time hangs: its jobs are better off with another.
STALL_SECONDS = 60.0


class StallWatch:
    """Says whether something still moves: a value that changes is a sign of life."""

    def __init__(self, since: float = float("-inf")) -> None:
        self._value: object = None
        self._moved_at = since

    def still_seconds(self, value: object, now: float) -> float:
        """Seconds since the value has changed; ``now`` is monotonic."""
        if value != self._value:
            self._value, self._moved_at = value, now
        return now - self._moved_at

    def moves(self, value: object, now: float) -> bool:
        """Whether the value has changed within the last ``STALL_SECONDS``."""
        return self.still_seconds(value, now) <= STALL_SECONDS
