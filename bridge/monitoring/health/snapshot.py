"""Takes a snapshot of a worker for the probes, read from its parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.sidecar.breaker import State

if TYPE_CHECKING:
    from bridge.runtime import Runtime

#: The reaper asks Redis every second; seconds without an answer after which Redis counts as away.
REDIS_SILENT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at the worker."""

    redis_silent_seconds: float | None
    """Since Redis last answered; None when it never has."""
    redis_steady_seconds: float
    """How long Redis has answered without an outage; 0 during one."""
    turns: int
    """Of the fetch loop, which turns at least once a second, work or no work."""
    loop_may_rest: bool
    """Whether the loop has a good reason not to turn: a job of the solo pool, or the end of the worker."""
    has_consumer: bool
    queues: tuple[str, ...]
    quiet: bool
    stopping: bool
    rejected: str | None
    """Why the sidecar refuses this worker altogether."""
    breaker: State
    breaker_reason: str
    kept_back: tuple[str, ...] = ()
    """Queues in which Ruby jobs wait because no sidecar answers."""

    @property
    def redis_answers(self) -> bool:
        """Whether Redis answers at present."""
        silent = self.redis_silent_seconds
        return silent is not None and silent <= REDIS_SILENT_SECONDS and self.redis_steady_seconds > 0


class Examiner:
    """Takes a snapshot. ``solo`` says that jobs run on the fetch loop's own thread."""

    def __init__(self, runtime: Runtime, *, solo: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._solo = solo
        self._clock = clock

    def examine(self) -> Snapshot:
        """Look once. Reads memory only, so that no probe ever waits for what it reports on."""
        fetcher, breaker = self._runtime.fetcher, self._runtime.breaker
        reaper = self._runtime.background.threads.get("recovery")
        now = self._clock()
        succeeded_at = reaper.succeeded_at if reaper else None
        steady_since = reaper.steady_since if reaper else None
        return Snapshot(
            redis_silent_seconds=None if succeeded_at is None else now - succeeded_at,
            redis_steady_seconds=0.0 if steady_since is None else max(0.001, now - steady_since),
            turns=fetcher.ticks or 0,
            loop_may_rest=fetcher.leaving or (self._solo and bool(fetcher.in_flight.running)),
            has_consumer=fetcher.has_consumer,
            queues=fetcher.order.names,
            quiet=fetcher.in_flight.is_quiet,
            stopping=fetcher.leaving,
            rejected=breaker.rejected,
            breaker=breaker.state,
            breaker_reason=breaker.reason,
            kept_back=tuple(sorted(fetcher.native_only.kept_back)) if breaker.is_open else (),
        )
