"""The keys that each settlement touches."""

from __future__ import annotations

import functools
import time

from bridge.sidekiq import keys


@functools.lru_cache(maxsize=4)
def utc_day(number: int) -> str:
    """The date of a day, counted from 1970."""
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86_400))


@functools.lru_cache(maxsize=4)
def processed_keys(day: str) -> tuple[str, str]:
    """The counters of a job that is done: the one of all days, and the one of this day."""
    return keys.PROCESSED, keys.processed_on(day)


@functools.lru_cache(maxsize=4)
def settling_keys(identity: str, day: str) -> tuple[str, ...]:
    """Hash, rows and counters of one worker: the first KEYS of every script that settles."""
    return (
        keys.inflight(identity),
        keys.work(identity),
        keys.workers(identity),
        keys.PROCESSED,
        keys.processed_on(day),
        keys.FAILED,
        keys.failed_on(day),
    )
