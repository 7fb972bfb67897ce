"""The snapshot of a healthy worker."""

from __future__ import annotations

from bridge.monitoring.health.snapshot import Snapshot
from bridge.sidecar.breaker import State

WELL = Snapshot(
    redis_silent_seconds=0.1,
    redis_steady_seconds=1000.0,
    turns=1,
    loop_may_rest=False,
    has_consumer=True,
    queues=("default",),
    quiet=False,
    stopping=False,
    rejected=None,
    breaker=State.CLOSED,
    breaker_reason="",
)
