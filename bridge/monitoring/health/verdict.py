"""Judges a snapshot: is the worker alive, does it take jobs, and if not, why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bridge.monitoring.health.snapshot import Snapshot
from bridge.settings.redis_url import mask
from bridge.sidekiq.lease.stall import STALL_SECONDS, StallWatch


class LoopWatch:
    """Measures how long the fetch loop has stood still without a good reason."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stall = StallWatch(clock())

    def still_seconds(self, snapshot: Snapshot) -> float:
        """Since when nothing moves, as far as the looks so far can tell."""
        now = self._clock()
        with self._lock:
            excused = snapshot.loop_may_rest or not snapshot.redis_answers
            still = self._stall.still_seconds(object() if excused else snapshot.turns, now)
            # While Redis was away Celery may have waited for it, outside of the loop: that does not count.
            return min(still, snapshot.redis_steady_seconds)


def not_live_reasons(snapshot: Snapshot, still_seconds: float) -> list[str]:
    """Reasons to kill the worker and start another. An outage of Redis or a sidecar is not one."""
    if still_seconds < STALL_SECONDS:
        return []
    return [f"the fetch loop has not turned for {still_seconds:.0f} s"]


def not_ready_reasons(snapshot: Snapshot, still_seconds: float) -> list[str]:
    """Why the worker takes no jobs at present. An absent sidecar is none: native jobs go on."""
    reasons = not_live_reasons(snapshot, still_seconds)
    if not snapshot.redis_answers:
        reasons.append(_silence(snapshot.redis_silent_seconds))
    elif not (snapshot.has_consumer and snapshot.queues) and not snapshot.stopping:
        reasons.append("no queue is consumed")
    if snapshot.rejected is not None:
        reasons.append(f"the sidecar refuses this worker: {snapshot.rejected}")
    if snapshot.stopping:
        reasons.append("the worker is shutting down")
    elif snapshot.quiet:
        reasons.append("the worker is quiet")
    return reasons


def shortfalls(snapshot: Snapshot) -> list[str]:
    """Faults of a worker that takes jobs: it is ready, and a person has to look."""
    if not snapshot.kept_back or snapshot.stopping:
        return []
    queues = "queue" if len(snapshot.kept_back) == 1 else "queues"
    names = ", ".join(snapshot.kept_back)
    return [f"Ruby jobs wait in {queues} {names}, and no sidecar runs them: {mask(snapshot.breaker_reason)}"]


def _silence(seconds: float | None) -> str:
    if seconds is None:
        return "Redis has not answered yet"
    return f"Redis has not answered for {seconds:.0f} s"
