"""Promotes due entries of an app that has client middleware: take the entry, run middleware, settle.

Middleware acts: it takes locks, counts, pushes other jobs. So a worker takes an entry out of its set first,
into its in-flight hash under a negative token, and no other process runs middleware for it. Ruby's poller
also takes first. Until the verdict is known the entry is to be pushed without middleware; a reaper does that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from bridge import errors
from bridge.redis import scripts
from bridge.redis.outages import is_outage, raise_first_error
from bridge.sidekiq import keys
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.outcome.decision import Discard
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.schedule.due_entry import UNCHANGED, Middleware, Passed, due_entry
from bridge.sidekiq.store import lua, settlement
from bridge.sidekiq.store.claims import ENTRY_VERSION
from bridge.sidekiq.store.due import DueEntry
from bridge.sidekiq.store.effects import with_effects
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)

#: A command that takes an entry does nothing when Redis gets it later than this.
VALID_MS = 10_000
#: Seconds for the middleware of the entries that a worker took at once. It puts the others back.
HOLD_SECONDS = 10.0
MOST_AT_ONCE = 100
#: A worker that has this many entries which Redis refuses to settle takes no more.
MOST_OPEN = 1000


@dataclass(slots=True)
class _Open:
    """An entry that this worker has taken, or may have taken, and what shall become of it."""

    identity: str
    source: str
    entry: DueEntry
    going: DueEntry | None
    """As it is pushed; None when middleware halted it."""
    until_ms: float
    """Redis TIME until which an unanswered command may still take it; 0 once the answer is known."""
    target: str = keys.SCHEDULE
    """The set for an entry that goes off to another time."""


#: Class and message, for who waits for the result of the job.
HALTED = ("Bridge::Halted", "the app's client middleware stopped the job")


class OwnedPromotion:
    """``promote`` is for the scheduler's thread, ``release`` for the thread that ends the worker."""

    def __init__(self, store: RedisStore, lease: Lease, middleware: Middleware) -> None:
        self._store = store
        self._lease = lease
        self._middleware = middleware
        self._open: dict[int, _Open] = {}
        self._next_token = -1
        self._released = False
        self._lock = threading.Lock()
        self._most = MOST_AT_ONCE
        self.left = 0
        """Entries of the last call that it did not try to take, because middleware is slow."""
        self.refused = 0
        """Entries of the last call that stay in their set, because Redis refuses their queue."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def tokens(self) -> frozenset[int]:
        """Of the entries that this worker has taken, or may have taken."""
        return frozenset(self._open)

    def promote(self, source: str, entries: Sequence[DueEntry], now: float, stamp: float | int) -> int:
        """Promote entries of one set; ``now`` is Redis TIME in s. Returns how many this worker took."""
        self.refused = self.left = 0
        self.settle_open(now)
        if len(self._open) > MOST_OPEN:
            return 0
        tokens = self._take(source, entries[: self._most], now * 1000 + VALID_MS)
        self.left = max(0, len(entries) - self._most)
        if tokens:
            self._decide(tokens, now, stamp)
            self.settle_open(now)
        return len(tokens)

    def settle_open(self, now: float) -> None:
        """Settle what earlier rounds have left: an outage, or a queue that Redis refused."""
        with self._lock:
            self._settle(now * 1000)

    def release(self) -> None:
        """The worker ends: push what it still owns, take no more. A later verdict is fenced."""
        with self._lock:
            self._released = True
            self._settle(None)

    # -- take

    def _take(self, source: str, entries: Sequence[DueEntry], until_ms: float) -> list[int]:
        with self._lock:
            if self._released or not entries:
                return []
            self._lease.ensure()
            identity = self._lease.identity
            tokens = [self._note(_Open(identity, source, one, one, until_ms)) for one in entries]
            calls = [_own_call(self._open[token], token) for token in tokens]
            answers = scripts.run(self._store.client, calls)
            return self._taken(tokens, answers)

    def _note(self, entry: _Open) -> int:
        token = self._next_token
        self._open[token] = entry
        self._next_token -= 1
        return token

    def _taken(self, tokens: Sequence[int], answers: Sequence[Any]) -> list[int]:
        """Forget what this worker did not get. An answer that tells of an outage leaves the entry open."""
        refusals = [answer for answer in answers if isinstance(answer, redis.RedisError)]
        for token, answer in zip(tokens, answers, strict=True):
            if answer == 1:
                self._open[token].until_ms = 0.0
            elif not (answer in refusals and is_outage(answer)):
                del self._open[token]
        raise_first_error([error for error in refusals if is_outage(error)])
        if refusals:
            self.refused = len(refusals)
            logger.error("%d due jobs stay where they are, the first for: %s", len(refusals), refusals[0])
        if -1 in answers:
            self._lease.renew()
        return [token for token in tokens if token in self._open]

    # -- run middleware

    def _decide(self, tokens: Sequence[int], now: float, stamp: float | int) -> None:
        """Slow middleware answers for a few entries at a time: those are settled before it is asked again."""
        owned = [entry for token in tokens if (entry := self._open.get(token))]
        if len(owned) < len(tokens):
            return  # the worker ends, and ``release`` has pushed them
        done, began = 0, time.monotonic()
        while done < len(tokens) and not self._released:
            if done and time.monotonic() - began > HOLD_SECONDS:
                self._put_back(owned[done:], now)
                break
            if not self._lease.holds(owned[done].identity):
                return  # frozen meanwhile: others have pushed these, and middleware must not run for them
            verdicts = self._middleware([entry.entry.member for entry in owned[done:]])
            self._note_verdicts(owned[done:], verdicts, stamp)
            with self._lock:
                self._settle(0.0, tokens[done : done + len(verdicts)])
            done += len(verdicts)
        self._most = min(MOST_AT_ONCE, 2 * self._most) if done == len(tokens) else max(1, done)

    def _put_back(self, owned: Sequence[_Open], now: float) -> None:
        """Middleware did not run for these and is slow: any poller may take them from their set."""
        for entry in owned:
            member, queue = entry.entry.member, entry.entry.queue
            entry.going, entry.target = DueEntry(member, queue, member, now), entry.source

    def _note_verdicts(self, owned: Sequence[_Open], verdicts: Sequence[Passed], stamp: float | int) -> None:
        beside_old = any(one.halted for one in verdicts) and self._works_beside_old_release()
        for entry, passed in zip(owned, verdicts, strict=False):
            entry.going = _after(entry.entry, passed, stamp, beside_old=beside_old)

    def _works_beside_old_release(self) -> bool:
        """Whether a worker lives that runs middleware before it owns an entry: its lock may be what halts."""
        try:
            return self._store.has_old_workers()
        except errors.StoreError:
            return True

    # -- settle

    def _settle(self, now_ms: float | None, tokens: Sequence[int] | None = None) -> None:
        """``now_ms`` is Redis TIME; None at the end of the worker. ``tokens``: None for all that are open."""
        tokens = [token for token in (list(self._open) if tokens is None else tokens) if token in self._open]
        if not tokens:
            return
        calls = [self._settle_call(token, self._open[token]) for token in tokens]
        answers = scripts.run(self._store.client, calls)
        for token, answer in zip(tokens, answers, strict=True):
            self._settled(token, answer, now_ms)
        raise_first_error([error for error in answers if isinstance(error, Exception) and is_outage(error)])

    def _settle_call(self, token: int, entry: _Open) -> scripts.Call:
        if entry.going is not None:
            return _settle_call(token, entry.going, entry)
        halted = scripts.Call(lua.load("settle_halted"), (keys.inflight(entry.identity),), (token,))
        job = SidekiqJob.parse(entry.entry.member)
        return with_effects(halted, self._store.effects.of(job, Discard(error=HALTED), entry.identity, token))

    def _settled(self, token: int, answer: Any, now_ms: float | None) -> None:
        entry = self._open[token]
        if isinstance(answer, redis.RedisError):
            if not is_outage(answer):
                logger.error("a promoted job waits, its queue is refused: %s", answer)
                entry.going = entry.entry
            return
        # Not owned as yet: a command without an answer may still reach Redis.
        if answer or now_ms is None or entry.until_ms < max(now_ms, 1.0):
            del self._open[token]


def _after(entry: DueEntry, passed: Passed, stamp: float | int, *, beside_old: bool) -> DueEntry | None:
    if passed.halted:
        return entry if beside_old else None
    if passed is UNCHANGED:
        return entry
    try:
        return due_entry(entry.member, passed, stamp)
    except (errors.PayloadError, ValueError) as error:
        logger.error("client middleware made a due job unreadable; it is pushed without: %s", error)
        return entry


def _own_call(entry: _Open, token: int) -> scripts.Call:
    member, queue, payload, _ = entry.entry
    name = (keys.LEASE, keys.inflight(entry.identity), entry.source, keys.queue(queue))
    stored = b"%s\n%s\n%s" % (ENTRY_VERSION, queue.encode(errors="surrogateescape"), payload)
    args = (entry.identity, token, member, stored, entry.until_ms)
    return scripts.Call(lua.load("schedule_own"), name, args)


def _settle_call(token: int, going: DueEntry, entry: _Open) -> scripts.Call:
    if going.at is not None:
        return settlement.put_off_call(entry.identity, token, entry.target, going.at, going.payload)
    names = (keys.inflight(entry.identity), keys.queue(going.queue), keys.QUEUES)
    return scripts.Call(lua.load("settle_promoted"), names, (token, going.payload))
