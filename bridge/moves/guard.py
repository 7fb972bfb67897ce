"""The guard: takes a class back to Ruby when it fails more often in Python.

The rule is a failure rate above twice Ruby's plus 1 %, once 50 Python runs are there. A small excess may be
chance: 2 failures of 50 say nothing about a class that fails at 1 % on both sides. So the guard also asks how
probable that many failures are at the limit, and acts below 1 %. Without that question a class that is
as good as in Ruby would be taken back within a few thousand jobs.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from bridge.moves.move import Move
from bridge.moves.runs import Counts

FEWEST_RUNS = 50
#: An old success must not hide a new bug: the last minutes are judged beside the whole move.
RECENT_SECONDS = 600.0
_CHANCE = 0.01
#: The guard believes this about Ruby before its first run: 2 failures of 20. Each real run adds to it.
_FAILURES_BEFORE, _RUNS_BEFORE = 2, 20


@dataclass(frozen=True, slots=True)
class Seen:
    """The counts of one class at one moment: all runs, and those of them that were retries."""

    at: float
    """Seconds by a steady clock."""
    python_runs: int
    python_failures: int
    ruby_runs: int
    ruby_failures: int
    python_retries: int = 0
    python_retry_failures: int = 0
    ruby_retries: int = 0
    ruby_retry_failures: int = 0

    @property
    def first_attempts(self) -> Seen:
        """Without the retries: a job that never succeeds fails again and again, and says nothing new."""
        return Seen(
            self.at,
            self.python_runs - self.python_retries,
            self.python_failures - self.python_retry_failures,
            self.ruby_runs - self.ruby_retries,
            self.ruby_failures - self.ruby_retry_failures,
        )

    @property
    def sides(self) -> tuple[Counts, Counts]:
        """Python's runs, and Ruby's."""
        return (
            Counts(self.python_runs, self.python_failures),
            Counts(self.ruby_runs, self.ruby_failures),
        )


class Guard:
    """Judges one class by what it sees again and again. For one thread."""

    def __init__(self) -> None:
        self._seen: deque[Seen] = deque()
        self._since_ms = 0

    def objection(self, move: Move, seen: Seen) -> str | None:
        """The sentence that takes the class back; None while all is well."""
        if move.since_ms != self._since_ms:
            self._seen.clear()
            self._since_ms = move.since_ms
        first = seen.first_attempts
        while len(self._seen) > 1 and self._seen[1].at <= seen.at - RECENT_SECONDS:
            self._seen.popleft()
        self._seen.append(first)
        (python, ruby), before = first.sides, self._seen[0].sides
        recent = _since(before[0], python)
        if is_worse(recent, ruby, _since(before[1], ruby)):
            return _sentence(recent, ruby)
        if python.runs < FEWEST_RUNS:
            python, ruby = seen.sides
        return _sentence(python, ruby) if is_worse(python, ruby) else None


def _since(before: Counts, now: Counts) -> Counts:
    return Counts(now.runs - before.runs, now.failures - before.failures)


def _sentence(python: Counts, ruby: Counts) -> str:
    return (
        f"{python.failures:,} of {python.runs:,} runs in Python failed "
        f"({python.failure_rate:.1%}), and {ruby.failures:,} of {ruby.runs:,} in Ruby "
        f"({ruby.failure_rate:.1%})"
    )


_NONE = Counts()


def is_worse(python: Counts, ruby: Counts, recent_ruby: Counts = _NONE) -> bool:
    """Whether Python's failure rate is above the limit, and not by chance.

    ``recent_ruby``: Ruby's runs of the same minutes. Both sides may have met the same outage.
    """
    believed = _believed(ruby, _FAILURES_BEFORE / _RUNS_BEFORE)
    limit = max(map(_limit, (ruby.failure_rate, believed, _believed(recent_ruby, believed))))
    if python.runs < FEWEST_RUNS or python.failure_rate <= limit:
        return False
    return _probability(python.failures, python.runs, limit) < _CHANCE


def _believed(ruby: Counts, before: float) -> float:
    """Ruby's failure rate, with a rate that was believed before: a few runs change it little."""
    return (ruby.failures + before * _RUNS_BEFORE) / (ruby.runs + _RUNS_BEFORE)


def _limit(rate: float) -> float:
    return min(1.0, 2 * rate + 0.01)


def _probability(failures: int, runs: int, rate: float) -> float:
    """The probability of this number of failures or more, if runs fail at this rate: a binomial tail.

    Above the mean each term is smaller than the one before, so the sum ends soon.
    """
    if rate >= 1.0:
        return 1.0
    odds = rate / (1 - rate)
    chosen = math.lgamma(runs + 1) - math.lgamma(failures + 1) - math.lgamma(runs - failures + 1)
    term = math.exp(chosen + failures * math.log(rate) + (runs - failures) * math.log1p(-rate))
    total = 0.0
    for count in range(failures, runs + 1):
        total += term
        if term < total * 1e-9:
            break
        term *= odds * (runs - count) / (count + 1)
    return total
