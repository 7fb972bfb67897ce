"""Finds waiting jobs by their jid and takes them out, wherever they wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bridge import errors
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.payload.job import SidekiqJob

CHUNK = 1000
LOCK_SECONDS = 10


@dataclass
class Search:
    """Looks through queues and sets, O(n) in what waits, in chunks: nothing else is held up for long."""

    client: Any
    """A redis.Redis that answers in bytes; its own types say "bytes or str" everywhere."""

    def first_to_ask(self, jid: str) -> bool:
        """Whether this process is the one to look: a broadcast reaches every worker at once."""
        with outages():
            return bool(self.client.set(keys.searching(jid), 1, nx=True, ex=LOCK_SECONDS))

    def remove(self, jid: str) -> int:
        """Remove every job with this jid from queues, ``schedule`` and ``retry``. Returns how many."""
        with outages():
            return sum(self._remove_from_set(key, jid) for key in (keys.RETRY, keys.SCHEDULE)) + sum(
                self._remove_from_queue(keys.queue(name.decode()), jid)
                for name in self.client.smembers(keys.QUEUES)
            )

    def remove_dead(self, jid: str) -> int:
        """Remove every entry with this jid from ``dead``. Returns how many."""
        with outages():
            return self._remove_from_set(keys.DEAD, jid)

    def _remove_from_queue(self, key: str, jid: str) -> int:
        found = [payload for payload in self._queue_members(key) if _is(payload, jid)]
        return sum(int(self.client.lrem(key, -1, payload)) for payload in found)

    def _queue_members(self, key: str) -> Iterator[bytes]:
        # From the head, where new jobs come in: what is pushed meanwhile shifts entries towards what is
        # still to come.
        start = 0
        while chunk := self.client.lrange(key, start, start + CHUNK - 1):
            yield from chunk
            start += CHUNK

    def _remove_from_set(self, key: str, jid: str) -> int:
        matching = self.client.zscan_iter(key, match=f"*{_literal(jid)}*", count=CHUNK)
        found = [member for member, _ in matching if _is(member, jid)]
        return int(self.client.zrem(key, *found)) if found else 0


def _is(payload: bytes, jid: str) -> bool:
    """Whether these bytes are the job: an argument may hold another job's id."""
    if jid.encode() not in payload:
        return False
    try:
        return SidekiqJob.parse(payload).jid == jid
    except errors.PayloadError:
        return False


def _literal(text: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in text)
