"""A quiet worker leaves due jobs to others."""

from __future__ import annotations

from typing import Any

from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.schedule.scheduler import Scheduler


class Untouched:
    """A store that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")


def test_a_quiet_worker_promotes_nothing() -> None:
    store: Any = Untouched()
    scheduler = Scheduler(store, lambda: Timestamps.SECONDS, quiet=lambda: True)
    assert scheduler.round() == scheduler.longest_sleep_seconds
