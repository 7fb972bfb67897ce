"""The native half of ``bridge verify``: a task that does nothing for a moment, or fails."""

from __future__ import annotations

import time

from bridge.celery import app

LONGEST_SECONDS = 5.0


class ProbeFailed(Exception):
    """Failed on purpose, by ``bridge verify``. Whoever collects errors can leave it out by its class."""


@app.task(name="SidekiqBridge::NativeProbe")
def probe(outcome: str, seconds: float = 0.0) -> None:
    """End as ``outcome`` says: ``done``, or anything else for a failure."""
    if outcome != "done":
        raise ProbeFailed("failed on purpose, by `bridge verify`")
    time.sleep(min(max(0.0, seconds), LONGEST_SECONDS))
