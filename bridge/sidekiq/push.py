"""A push from outside of Celery: the payload that Sidekiq's client would make for a class by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.sidekiq import ruby_json
from bridge.sidekiq.clock import Timestamps
from bridge.sidekiq.store import RedisStore


def payload(
    job_class: str,
    args: Sequence[Any],
    queue: str,
    jid: str,
    now: float,
    timestamps: Timestamps,
    options: Mapping[str, Any],
    *,
    scheduled: bool,
) -> bytes:
    """Follows ``client.rb``: ``retry: true`` unless ``options`` say otherwise. ``now`` in epoch seconds.

    Raises ValueError for NaN and Infinity.
    """
    stamp = timestamps.stamp(now)
    fields = {"retry": True, **options, "queue": queue, "class": job_class, "args": list(args), "jid": jid}
    times = {"created_at": stamp} if scheduled else {"created_at": stamp, "enqueued_at": stamp}
    return ruby_json.encode({**fields, **times})


def push(store: RedisStore, queue: str, job: bytes, at: float | None) -> None:
    """To its queue, or for ``at`` (epoch seconds) to ``schedule``."""
    store.put(queue, job, at)
