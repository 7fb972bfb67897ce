"""Orders to processes and queues, as Sidekiq's Web UI and API give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.redis.outages import outages
from bridge.sidekiq import keys

QUIET, STOP = "TSTP", "TERM"
SIGNAL_SECONDS = 60
REVOKE_SECONDS = 10


@dataclass(frozen=True)
class Commands:
    """Every method raises StoreUnavailable when Redis cannot answer."""

    client: Any

    def signal(self, identity: str, name: str) -> None:
        """Leave a signal (``QUIET`` or ``STOP``) for a process, which takes it at one of its next beats."""
        with outages():
            pipeline = self.client.pipeline(transaction=True)
            pipeline.lpush(keys.signals(identity), name)
            pipeline.expire(keys.signals(identity), SIGNAL_SECONDS)
            pipeline.execute()

    def pause(self, queue: str) -> bool:
        """Pause a queue for all processes (Sidekiq Pro's ``paused``). False when it was paused already."""
        with outages():
            return bool(self.client.sadd(keys.PAUSED, queue))

    def resume(self, queue: str) -> bool:
        """Undo ``pause``. False when it was not paused."""
        with outages():
            return bool(self.client.srem(keys.PAUSED, queue))

    def cancel_iteration(self, jid: str, now: float) -> bool:
        """Ask an iterable job to stop at its next checkpoint (``IterableJob#cancel!`` of 7.3 and later)."""
        key = keys.iteration(jid)
        with outages():
            if not self.client.exists(key):
                return False
            return bool(self.client.hsetnx(key, "cancelled", int(now)))

    def first_to_revoke(self, jid: str) -> bool:
        """Whether this process looks for the waiting job: a broadcast reaches every worker at once."""
        with outages():
            return bool(self.client.set(keys.searching(jid), 1, nx=True, ex=REVOKE_SECONDS))
