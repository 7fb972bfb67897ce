"""Lines: the jobs that wait at gates, and the thread that moves on what no settlement moves.

A settlement lets the next job go by itself. This thread is for all else: the next start of a rate, a place
that has expired, a limit that has changed or gone, and the times of waiting jobs in ``schedule``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import redis

from bridge.limits import calls
from bridge.limits.declarers import Declarers
from bridge.limits.deletions import Deletions
from bridge.limits.gates import Gate, Gates, Limits
from bridge.limits.line_reader import LineReader
from bridge.limits.next_starts import NextStarts
from bridge.redis import scripts
from bridge.redis.outages import outages, raise_first_error
from bridge.sidekiq import keys

logger = logging.getLogger(__name__)

#: Seconds between two looks for lines that no worker has moved in time.
LOOK_SECONDS = 1.0
#: Without any line there is nothing to do until a job of this process waits.
ASLEEP_SECONDS = 3600.0
#: As in ``limit_line.lua``: seconds that a waiting job is ahead of its time, and its rest when it is renewed.
PARKED_SECONDS = 600.0
RENEWED_BEFORE_SECONDS = 300.0
#: Next starts further away are left to the look at all lines.
LONGEST_TIMER_SECONDS = 5.0
SHIFTED_AT_ONCE = 100
LINES_AT_ONCE = 50
NOTHING = Limits()


class Lines:
    """``follow`` is for the consumer's thread, ``round`` for its own, ``leave`` for the one that ends all."""

    def __init__(
        self,
        client: redis.Redis,
        limits: Limits,
        identity: Callable[[], str],
        nudge: Callable[[], object] = lambda: None,
    ) -> None:
        self._client = client
        self._limits = limits
        self._identity = identity
        self._nudge = nudge
        self._reader = LineReader(client, limits)
        self._deletions = Deletions(client)
        self.declarers = Declarers(client)
        self._registered = ""
        self._ahead: float | None = None
        """Redis TIME minus the monotonic clock of this process."""
        self._starts = NextStarts()
        self._look_at = 0.0
        self._began = self._active = False
        self._foreign: set[str] = set()
        """Lines of limits that only other processes know."""
        self._of_dead: dict[str, Limits] = {}

    @property
    def active(self) -> bool:
        """Whether this process has limits, or jobs wait."""
        return self._active or bool(self._limits.declared)

    def follow(self, gates: Gates, now: float, look: float | None, *, waits: bool) -> None:
        """A job has passed these gates, or waits at one; ``look``: when it may go on there."""
        self._ahead = now - time.monotonic()
        if waits:
            self._reader.know(gates)
        is_new = waits and not self._active
        self._active = self._active or waits
        if (look is not None and self._set_timers(gates, now, look)) or is_new:
            self._nudge()

    def claim_ended(self) -> None:
        """Lines that waited for a claim may go on."""
        self._look_at = 0.0
        self._nudge()

    def limits_of(self, identity: str) -> Limits:
        """The limits that another worker has declared: one read for each dead worker."""
        if identity in (self._registered, self._identity()):
            return NOTHING
        if identity not in self._of_dead:
            self._of_dead = {identity: Limits(self.declarers.declared_by(identity))}
        return self._of_dead[identity]

    def reaped(self, identity: str) -> None:
        """A worker has died, and this one has its jobs: its lines may have no other process."""
        self.declarers.dead.add(identity)
        self.declarers.forget_claims(identity)
        self._began = False
        self._look_at = 0.0
        self._nudge()

    def round(self) -> float:
        """Move on what is due. Returns seconds until the next look."""
        if not self._began:
            self._begin()
        if not self.active:
            return ASLEEP_SECONDS
        self._register()
        self._move(self._starts.due(self._now()))
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._look()
        return self._pause()

    def leave(self) -> None:
        """The worker ends. Lines that no other process knows must not wait for one."""
        if not self._registered:
            return
        self.declarers.leave(self._registered)
        others = self.declarers.living(self._registered)
        names = {one.get("name") for declared in others.values() for one in declared}
        for line in self._reader.all_lines():
            name = self._reader.limit_name(line)
            if name not in names and (name in self._limits.by_name or not others):
                self.release(line)

    # -- looks

    def _begin(self) -> None:
        """At the start, and when a worker died: a limit may have changed, or be gone, while jobs waited."""
        self._began = True  # before the read: a worker may die meanwhile
        try:
            lines = self._reader.all_lines()
            self._active = self._active or bool(lines)
            known = self._reader.gates(lines)
            self._foreign = set(lines) - known.keys()
            self._move(known, audit=True)
        except BaseException:
            self._began = False
            raise

    def _register(self) -> None:
        identity = self._identity()
        if identity != self._registered:
            self.declarers.register(identity, self._limits.declared)
            if self._registered:
                self.declarers.leave(self._registered)
            self._registered = identity

    def _look(self) -> None:
        """Lines whose time has come though no process has moved them."""
        lines = self._reader.overdue(self._now(), LINES_AT_ONCE)
        known = self._reader.gates(lines)
        self._foreign |= set(lines) - known.keys()
        self._move(known, audit=True)
        if len(lines) == LINES_AT_ONCE and known:
            self._look_at = 0.0
        self._move(self._reader.gates(self._deletions.freed()), audit=True)
        if self._foreign:
            self._look_at_foreign()

    def _look_at_foreign(self) -> None:
        """A limit that no living process declares is the jobs' own, or it is gone."""
        declared = self.declarers.names(besides=self._registered)
        names = {line: self._reader.limit_name(line, declared) for line in self._foreign}
        orphaned = [line for line, name in names.items() if name not in declared]
        own = self._reader.own_gates(orphaned)
        self._move(own, audit=True)
        for line in orphaned:
            self._foreign.discard(line)
            if line not in own:
                self.release(line)

    # -- moves

    def _move(self, gates: Mapping[str, Gate], *, audit: bool = False) -> None:
        """Let waiting jobs go where there is room, and renew the times of those that stay."""
        if not gates:
            return
        if audit:
            self._reader.drop_stale_places(gates.values())
        queues = self._reader.queues(gates, exact=audit)
        called = [calls.advance(gate, queues[line]) for line, gate in gates.items()]
        answers = scripts.run(self._client, called)
        raise_first_error(answers)
        for gate, answer in zip(gates.values(), answers, strict=True):
            self._moved(gate, answer)

    def _moved(self, gate: Gate, answer: Any) -> None:
        now, look, head = float(answer[0]), answer[1], answer[2]
        self._ahead = now - time.monotonic()
        # The job that has just left may run already, and has set the timer of the next one.
        if look:
            self._set_timers((gate,), now, float(look))
        if head and float(head) - now < RENEWED_BEFORE_SECONDS + LOOK_SECONDS:
            self._renew(gate, now + PARKED_SECONDS - float(head))

    def _renew(self, gate: Gate, seconds: float) -> None:
        begin: Any = "+inf"
        while begin:
            lowest = scripts.run(self._client, [calls.shift(gate.line, begin, seconds, SHIFTED_AT_ONCE)])
            raise_first_error(lowest)
            begin = lowest[0][0] and f"({lowest[0][0].decode()}"
        answers = scripts.run(self._client, [calls.advance(gate, self._limits.seen_queues(gate.limit.name))])
        raise_first_error(answers)

    def release(self, line: str) -> None:
        """Let all jobs of a line go, without their limit: they are due."""
        left = 1
        while left:
            answers = scripts.run(self._client, [calls.release(line, SHIFTED_AT_ONCE)])
            raise_first_error(answers)
            left = answers[0]
        with outages():
            self._client.delete(keys.gate(line)[1])
        logger.info("limit %s: all jobs that waited go on without it", line)

    # -- time

    def _now(self) -> float:
        if self._ahead is None:
            self._ahead = self._reader.time() - time.monotonic()
        return time.monotonic() + self._ahead

    def _set_timers(self, gates: Iterable[Gate], now: float, look: float) -> bool:
        """Whether a timer was set."""
        return look - now <= LONGEST_TIMER_SECONDS and self._starts.set(gates, look)

    def _pause(self) -> float:
        pause = self._look_at - time.monotonic()
        if (first := self._starts.first()) is not None:
            pause = min(pause, first - self._now())
        return max(0.0, pause)
