"""The other Sidekiq processes on this Redis: from their rows we learn which version we work beside."""

from __future__ import annotations

import json
import re
from typing import Any

from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.dialect import Dialect

_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")


def teach(dialect: Dialect, client: Any, own_identity: str) -> None:
    """No sidecar and no setting has said which Sidekiq this is: the others may."""
    if not dialect.version and (found := version(client, own_identity)):
        dialect.learn(found)


def version(client: Any, own_identity: str) -> str | None:
    """The Sidekiq version that another process reports (7.0.2 and later do), or None.

    Workers of the bridge repeat what they learned from others, so any row will do but our own.
    """
    with outages():
        others = [
            name for name in client.smembers(keys.PROCESSES) if name.decode(errors="replace") != own_identity
        ]
        # One after the other: nearly always the first one tells, and a row names all queues of its process.
        versions = (_version_of(client.hget(name, "info")) for name in sorted(others))
        return next(filter(None, versions), None)


def _version_of(row: bytes | None) -> str | None:
    try:
        found = json.loads(row or b"{}").get("version")
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) and _VERSION.fullmatch(found) else None
