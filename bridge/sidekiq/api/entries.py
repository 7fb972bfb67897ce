"""Waiting jobs, read in pages: a million of them must not hold Redis up."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge import errors
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.payload import timestamps
from bridge.sidekiq.payload.job import SidekiqJob

PAGE = 500

Needles = Collection[bytes]
"""Texts of which a payload must hold one; none: anything will do."""

SETS = (keys.RETRY, keys.SCHEDULE, keys.DEAD)
_OTHER_NAMES = {"retries": keys.RETRY, "scheduled": keys.SCHEDULE, "morgue": keys.DEAD}


@dataclass(frozen=True, slots=True)
class Place:
    """A place of waiting jobs: a queue, or one of Sidekiq's three sets."""

    key: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """``retry``, ``schedule``, ``dead`` or ``queue:NAME``. Raises ValueError with what to write."""
        key = _OTHER_NAMES.get(text, text)
        if key in SETS or (key.startswith(keys.QUEUE_PREFIX) and key != keys.QUEUE_PREFIX):
            return cls(key)
        close = difflib.get_close_matches(text, SETS, n=1) or [f"{keys.QUEUE_PREFIX}{text or 'default'}"]
        raise ValueError(
            f"{text} is not a place: write retry, schedule, dead or queue:NAME; did you mean {close[0]}?"
        )

    @property
    def queue(self) -> str | None:
        """Name of the queue; None for a set."""
        return self.key.removeprefix(keys.QUEUE_PREFIX) if self.key.startswith(keys.QUEUE_PREFIX) else None

    def __str__(self) -> str:
        return self.key


@dataclass(frozen=True, slots=True)
class Entry:
    """One waiting job. ``member`` is exactly its bytes in Redis."""

    place: Place
    member: bytes = field(repr=False)
    job: SidekiqJob
    """The job; without fields where the bytes are not a job."""
    score: float | None = None
    """Epoch seconds: when it is due, or when it died; None in a queue."""

    @classmethod
    def of(cls, place: Place, member: bytes, score: float | None = None) -> Entry:
        """Read one entry, whatever it is."""
        try:
            return cls(place, member, SidekiqJob.parse(member), score)
        except errors.PayloadError:
            return cls(place, member, SidekiqJob.unreadable(member), score)

    @property
    def since(self) -> float | None:
        """Epoch seconds since when it is there: pushed, failed last, died."""
        job = self.job
        if self.place.key == keys.DEAD:
            return self.score
        if self.place.key == keys.RETRY:
            return timestamps.seconds(job.fields.get("retried_at")) or job.failed_at
        return (job.enqueued_at or job.created_at) if self.place.queue else job.created_at


@dataclass(frozen=True)
class Entries:
    """All waiting jobs of one Redis."""

    client: Any
    """A redis.Redis that answers in bytes; its own types say "bytes or str" everywhere."""

    def places(self) -> list[Place]:
        """Every queue, by name, and the three sets."""
        with outages():
            names = sorted(name.decode(errors="replace") for name in self.client.smembers(keys.QUEUES))
        return [*(Place(keys.queue(name)) for name in names), *map(Place, SETS)]

    def size(self, place: Place) -> int:
        """Number of jobs there."""
        with outages():
            return int(self.client.llen(place.key) if place.queue else self.client.zcard(place.key))

    def in_order(self, place: Place, needles: Needles = ()) -> Iterator[Entry]:
        """The next to run first; of the dead the latest first.

        For looking only: what moves meanwhile may be missed.
        """
        start = 0
        while page := self._page(place, start):
            yield from _entries(place, page, needles)
            start += len(page)

    def sweep(self, place: Place, act: Callable[[Sequence[Entry]], int], needles: Needles = ()) -> int:
        """Hand every entry to ``act``, in pages; it returns how many of them it took out. Returns their sum.

        What stays in its place from begin to end is seen at least once.
        """
        return (self._sweep_queue if place.queue else self._sweep_set)(place, act, needles)

    def _page(self, place: Place, start: int) -> list[tuple[bytes, float | None]]:
        with outages():
            if place.queue:
                found = self.client.lrange(place.key, -start - PAGE, -start - 1)
                return [(member, None) for member in reversed(found)]
            newest_first = place.key == keys.DEAD
            return list(
                self.client.zrange(place.key, start, start + PAGE - 1, desc=newest_first, withscores=True)
            )

    def _sweep_queue(self, place: Place, act: Callable[[Sequence[Entry]], int], needles: Needles) -> int:
        # From the head, where new jobs come in: those shift entries towards what is still to come.
        taken, start, members = 0, 0, self._head(place, 0)
        while members:
            gone = act(_entries(place, [(member, None) for member in members], needles))
            taken, start = taken + gone, start + len(members) - gone
            # A short page was the last one: without this, what is pushed meanwhile would have no end.
            members = self._head(place, start) if len(members) == PAGE else []
        return taken

    def _head(self, place: Place, start: int) -> list[bytes]:
        with outages():
            return list(self.client.lrange(place.key, start, start + PAGE - 1))

    def _sweep_set(self, place: Place, act: Callable[[Sequence[Entry]], int], needles: Needles) -> int:
        taken, cursor = 0, -1
        # One needle Redis looks for itself, and sends only what holds it.
        match = b"*%s*" % _literal(*needles) if len(needles) == 1 else None
        while cursor != 0:
            with outages():
                cursor, pairs = self.client.zscan(place.key, max(cursor, 0), match=match, count=PAGE)
            taken += act(_entries(place, pairs, needles))
        return taken


def _entries(place: Place, pairs: Iterable[tuple[bytes, float | None]], needles: Needles) -> list[Entry]:
    """Parsing is what costs: bytes without any of the needles are passed over unread."""
    return [
        Entry.of(place, member, score)
        for member, score in pairs
        if not needles or any(needle in member for needle in needles)
    ]


def _literal(text: bytes) -> bytes:
    """A pattern of Redis that fits this text alone."""
    return re.sub(rb"[*?\[\]\\^]", rb"\\\g<0>", text)
