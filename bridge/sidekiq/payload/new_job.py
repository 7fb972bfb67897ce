"""A push: the payload that Sidekiq's client would make for a class by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.sidekiq.payload import ruby_json
from bridge.sidekiq.payload.timestamps import Timestamps


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
    fields: dict[str, Any] = {"retry": True, "queue": queue, **options}
    fields |= {"queue": queue, "class": job_class, "args": args, "jid": jid, "created_at": stamp}
    if not scheduled:
        fields["enqueued_at"] = stamp
    return ruby_json.encode(fields)
