"""Finds out how many jobs of a class stock Sidekiq processes ran, beside the bridge's workers.

Sidekiq 7 and later count the runs of each class by the minute, for their Metrics page. Workers of the bridge
write these counts too, and their own part of them into ``bridge:moves:minute:*`` in the same flush. The rest
was run by Sidekiq. Sidekiq 6 counts no classes, so there the share is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import redis

from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.api.values import int_of

MOST_MINUTES = 60


def of_sidekiq(client: redis.Redis, job_class: str, since_ms: int, now_ms: int) -> float | None:
    """Share (0 to 1) of the runs within the last hour that a Sidekiq process made; None if it is unknown.

    The minute in which the move began has runs from before it, and is left out.
    """
    minutes = _minutes(since_ms, now_ms)
    if not minutes:
        return None
    with outages():
        pipeline = client.pipeline(transaction=False)
        for minute in minutes:
            pipeline.hget(keys.metrics_minute_7(minute), f"{job_class}|p")
            pipeline.hget(keys.metrics_minute_8(minute), f"{job_class}|p")
            pipeline.hget(keys.move_minute(minute), job_class)
        found = [int_of(value) for value in pipeline.execute()]
    # A worker that does not know the version of Sidekiq yet writes the counts for both.
    everyone = max(sum(found[0::3]), sum(found[1::3]))
    ours = sum(found[2::3])
    return max(0, everyone - ours) / everyone if everyone else None


def _minutes(since_ms: int, now_ms: int) -> Sequence[datetime]:
    now = datetime.fromtimestamp(now_ms / 1000, UTC).replace(second=0, microsecond=0)
    count = min(MOST_MINUTES, now_ms // 60_000 - since_ms // 60_000)
    return [now - timedelta(minutes=n) for n in range(count)]
