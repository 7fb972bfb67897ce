"""Shadows: a Ruby run is repeated as a dry run in Python, and both outcomes are compared.

The real job has been settled by then. One thread hands the dry runs to a process of their own, one after
another, and rests after each. A job is left out while too many wait. So a shadow delays, fails, retries and
counts no job.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

import redis

from bridge import errors
from bridge.moves.comparison import Compared, Outcome, compare, of_told, told
from bridge.moves.dry_runs import DryRuns, Ended, NotStarted
from bridge.moves.move import RUBY, Move
from bridge.periodic import Periodic
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision, GiveBack, Interrupt
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.tracked import Tracked
from bridge.sidekiq.process.flushes import Command, Flushes
from bridge.sidekiq.store.settlement import Settled

logger = logging.getLogger(__name__)

MOST_WAITING = 100
MOST_DIFFERENCES = 100
TTL_SECONDS = 30 * 86_400
#: A dry run may take this many times as long as the Ruby run, and at least this number of seconds.
_SLOWER, _LEAST_SECONDS = 10.0, 10.0
_FOREVER = 3600.0
#: Rest after a dry run, in times of its CPU time, and in seconds.
_REST, _LEAST_REST_SECONDS = 9.0, 0.01
#: Between two attempts to start the process of the dry runs.
_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    move: Move
    job: SidekiqJob
    decision: Decision
    run_seconds: float

    @property
    def most_seconds(self) -> float:
        return max(_LEAST_SECONDS, _SLOWER * self.run_seconds)


class Reported(Tracked):
    """Says which jobs are tracked, and of which others a shadow asks what they return."""

    def __init__(self, tracked: Tracked, shadows: Shadows) -> None:
        self._tracked, self._shadows = tracked, shadows
        self.classes = _Either(tracked.classes, shadows.classes)

    def __contains__(self, job: SidekiqJob) -> bool:
        return job in self._tracked

    def flags(self, job: SidekiqJob) -> tuple[bool, bool]:
        """The flags ``tracked`` and ``shadowed`` of its delivery."""
        is_tracked = job in self
        return is_tracked, not is_tracked and self._shadows.wants(job)


class _Either(set[str]):
    def __init__(self, *sets: Container[str]) -> None:
        self._sets = sets

    def __contains__(self, name: object) -> bool:
        return any(name in each for each in self._sets)


class Shadows:
    """Belongs to one worker. ``settled`` is on the hot path of classes that move, and only of those."""

    def __init__(
        self,
        client: Callable[[], redis.Redis],
        accepts: Callable[[str], bool],
        dry_runs: DryRuns,
        *,
        show_args: bool = False,
    ) -> None:
        """``accepts``: whether this worker has a task for a class that may run as a shadow."""
        self._client = client
        self._accepts = accepts
        self._dry_runs = dry_runs
        self._show_args = show_args
        self._moves: Mapping[str, Move] = {}
        self._waiting: deque[_Waiting] = deque()
        self._counts: dict[tuple[Move, str], int] = {}
        self.differences: Counter[str] = Counter()
        """Differences that this worker has found, by class."""
        self._flushes = Flushes()
        self._thread: Periodic | None = None
        self._rests_until = 0.0

    def follow(self, moves: Mapping[str, Move]) -> None:
        """Shadow the Ruby runs of these classes from now on."""
        self._moves = {name: move for name, move in moves.items() if move.shadow and self._accepts(name)}
        if not self._moves and self._thread is not None:
            self._thread.nudge()

    @property
    def classes(self) -> frozenset[str]:
        """The classes whose Ruby runs are repeated."""
        return frozenset(self._moves)

    def wants(self, job: SidekiqJob) -> bool:
        """Whether the return value of a Ruby run is needed. Not of one that will be left out."""
        move = self._moves.get(job.native_class or "")
        if move is None or len(self._waiting) >= MOST_WAITING:
            return False
        return move.shadows(job.jid) and move.side_of(job.jid, job.fields) == RUBY

    def settled(self, unit: UnitOfWork, decision: Decision, outcome: Settled) -> None:
        """A job has ended: have it run in Python too, where its class is shadowed."""
        move = self._moves.get(unit.job.native_class or "")
        if move is None or unit.native or unit.started_at is None or outcome is not Settled.OK:
            return
        if isinstance(decision, GiveBack | Interrupt) or not move.shadows(unit.job.jid):
            return
        if len(self._waiting) >= MOST_WAITING:
            self._count(move, "left out")
            return
        self._waiting.append(_Waiting(move, unit.job, decision, unit.run_seconds or 0.0))
        if self._thread is None:
            self._thread = Periodic("shadows", self._round)
            self._thread.start()
        if len(self._waiting) == 1:
            self._thread.nudge()

    def stop(self) -> None:
        """The worker ends, and its dry runs with it."""
        self._moves = {}
        self._waiting.clear()
        self._dry_runs.stop()
        if self._thread is not None:
            self._thread.stop(0.1)

    def flush(self) -> None:
        """Add the counts to those in Redis, once. Raises StoreUnavailable."""
        self._flushes.flush(self._client(), self._drain)

    # -- the thread of the dry runs

    def _round(self) -> float:
        while self._waiting and self._moves:
            now = time.monotonic()
            if now < self._rests_until:
                return self._rests_until - now
            pause = self._compare(self._waiting.popleft())
            self._rests_until = time.monotonic() + pause
        if not self._moves:
            self._waiting.clear()
            self._dry_runs.stop()
            self._rests_until = 0.0
        return _FOREVER

    def _compare(self, waiting: _Waiting) -> float:
        """Returns the seconds to rest."""
        try:
            found = self._compared(waiting)
        except NotStarted as error:
            if not self._moves:  # it was ended while it loaded the tasks
                return 0.0
            self._count(waiting.move, "left out")
            logger.error("shadows do not run, because their process cannot load the tasks: %s", error)
            return _AGAIN_SECONDS
        if found is None:
            return 0.0
        self._count(waiting.move, "runs")
        if found.what is not None:
            self._count(waiting.move, "differences")
            self.differences[waiting.move.job_class] += 1
            self._note(waiting, found)
        return max(_LEAST_REST_SECONDS, _REST * found.cpu_seconds)

    def _compared(self, waiting: _Waiting) -> Compared | None:
        """Both outcomes beside each other; None where the shadows were stopped meanwhile."""
        ruby = told(waiting.decision)
        try:
            return self._dry_runs.run(waiting.job.raw, ruby, waiting.most_seconds)
        except Ended as end:
            if not self._moves:
                return None
            python, cpu = Outcome(error=str(end)), end.cpu_seconds
        args, show_args = waiting.job.args, self._show_args
        return compare(of_told(ruby), python, args, show_args=show_args, cpu_seconds=cpu)

    def _note(self, waiting: _Waiting, found: Compared) -> None:
        jid, name = waiting.job.jid, waiting.move.job_class
        logger.warning(
            "the shadow of jid=%s class=%s has another %s: %s in Ruby, %s in Python",
            jid,
            name,
            found.what,
            found.ruby,
            found.python,
        )
        said = {"jid": jid, "at": time.time(), "what": found.what, "ruby": found.ruby, "python": found.python}
        key = keys.move_differences(name)
        try:
            with outages():
                pipeline = self._client().pipeline(transaction=False)
                pipeline.lpush(key, json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass"))
                pipeline.ltrim(key, 0, MOST_DIFFERENCES - 1)
                pipeline.expire(key, TTL_SECONDS)
                pipeline.execute()
        except errors.StoreError as error:  # the log has it
            logger.debug("a difference was not listed: %s", error)

    # -- counts

    def _count(self, move: Move, what: str) -> None:
        self._counts[move, what] = self._counts.get((move, what), 0) + 1

    def _drain(self) -> tuple[Command, ...]:
        counts, self._counts = self._counts, {}
        return tuple(_commands(counts))


def _commands(counts: Mapping[tuple[Move, str], int]) -> Iterator[Command]:
    for (move, what), count in counts.items():
        key = keys.move_runs(move.job_class, move.since_ms)
        yield "HINCRBY", key, f"shadow|{what}", count
        yield "EXPIRE", key, TTL_SECONDS
