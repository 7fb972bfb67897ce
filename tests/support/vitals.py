"""The vitals of a worker that is well."""

from __future__ import annotations

from bridge.monitoring.vitals import Vitals
from bridge.sidecar.breaker import State

WELL = Vitals(
    redis_silent_seconds=0.1,
    redis_steady_seconds=1000.0,
    turns=1,
    loop_may_rest=False,
    attended=True,
    queues=("default",),
    quiet=False,
    stopping=False,
    rejected=None,
    breaker=State.CLOSED,
    breaker_reason="",
)
