"""Decides about a native (Python) job that failed, by the rules of Sidekiq's ``job_retry.rb``, 6.4 to 8.1.

Ruby jobs are decided in Ruby, by the sidecar; both must come to the same end, because a job may fail in turn
in either.
"""

from __future__ import annotations

import enum
import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.sidekiq.outcome.decision import Bury, DeadLimits, Discard, Retry
from bridge.sidekiq.outcome.failure import Failure, wants_backtrace
from bridge.sidekiq.outcome.notice import Context, Death, Notice
from bridge.sidekiq.payload import backtrace
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.ruby_json import Json
from bridge.sidekiq.payload.splice import splice
from bridge.sidekiq.payload.timestamps import Timestamps

DEFAULT_MAX_RETRIES = 25

#: Keeps count**4 a finite number of seconds whatever count a payload claims; 100 is three years away.
_LONGEST_CURVE = 1_000

#: A hundred years, as the sidecar cuts the delays of Ruby jobs.
LONGEST_DELAY_SECONDS = 3_155_760_000

#: More than any ``retry_for`` that Sidekiq accepts (10^9); larger integers may be beyond the range of floats.
_ENDLESS_SECONDS = 10**10


class Family(enum.Enum):
    """Sidekiq versions that decide alike."""

    SIX = "6"
    """Up to 7.1.2: ``retry_for`` is unknown."""
    SEVEN = "7"
    """7.1.3 to 7.3: the count or ``retry_for`` ends it, whichever comes first."""
    EIGHT_0 = "8.0"
    """As 7, with a jitter spread evenly."""
    EIGHT_1 = "8.1"
    """``retry_for``, where given, replaces the count."""

    @classmethod
    def of(cls, version: str) -> Family:
        """The family of a version such as ``7.3.2``; the newest for a text that is not a version."""
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        if not numbers or numbers >= (8, 1):
            return cls.EIGHT_1
        if numbers >= (8,):
            return cls.EIGHT_0
        return cls.SEVEN if numbers >= (7, 1, 3) else cls.SIX


@dataclass(frozen=True, slots=True)
class RetryRules:
    """The rules for every job of this cluster."""

    family: Family = Family.SEVEN
    timestamps: Timestamps = Timestamps.SECONDS
    max_retries: int = DEFAULT_MAX_RETRIES
    dead_limits: DeadLimits = field(default_factory=DeadLimits)
    tells_deaths: bool = False
    """Whether a sidecar is configured, which runs the app's death handlers."""
    tells_errors: bool = False
    """Whether the app has error handlers, which Sidekiq calls at each failure."""


def decide(
    job: SidekiqJob,
    failure: Failure,
    *,
    queue: str,
    rules: RetryRules,
    now: float,
    rng: random.Random,
    class_retry: bool | int | None = True,
    limit: int | None = None,
    delay: Callable[[int], float | None] | None = None,
    delay_is_final: bool = False,
) -> Retry | Bury | Discard:
    """The next place of a failed job, with the payload to store there.

    ``queue`` is the one it was taken from, ``now`` epoch seconds. ``class_retry`` replaces an absent
    ``retry``. ``limit`` is the task's own number of retries: the lower one counts, and for ``retry: true`` it
    alone. ``delay`` gives seconds for the failure count (0 at first) and replaces the curve, as
    ``sidekiq_retry_in`` does: None, 0 and less mean the curve, and jitter is added; ``delay_is_final`` takes
    it as it is (Celery's own jitter is in it).
    """
    own, before = job.retry, job.retry_count
    option = class_retry if own is None else own
    if option is None or option is False:
        return Discard(_notice(failure, {}, rules, Death.KILLED), (failure.error_class, failure.message))
    count = 0 if before is None else before + 1
    stored_option = {"retry": option} if own is None else {}
    fields = {**stored_option, **_fields(job, failure, before, queue, rules.timestamps.stamp(now))}
    payload = splice(job.raw, job.entry_fields(fields))
    if _exhausted(job, option, count, rules, now, limit):
        return _bury(job, payload, rules, failure, _notice(failure, fields, rules, Death.EXHAUSTED))
    at = now + _delay_seconds(count, rules, rng, delay, delay_is_final)
    return Retry(at, payload, _notice(failure, fields, rules))


def _bury(
    job: SidekiqJob, payload: bytes, rules: RetryRules, failure: Failure, notice: Notice | None
) -> Bury | Discard:
    """Only a literal ``false`` keeps a job out of the dead set."""
    if job.fields.get("dead") is False:
        return Discard(notice, (failure.error_class, failure.message))
    return Bury(payload, rules.dead_limits, notice=notice)


def _notice(
    failure: Failure, fields: Mapping[str, Any], rules: RetryRules, death: Death | None = None
) -> Notice | None:
    """Sidekiq calls the death handlers first, then the error handlers."""
    if not (rules.tells_errors or (death and rules.tells_deaths)):
        return None
    errors = Context.FAILED if rules.tells_errors else None
    return Notice(failure.error_class, failure.message, tuple(failure.lines()), fields, death, errors)


def _fields(
    job: SidekiqJob, failure: Failure, before: int | None, queue: str, stamp: float | int
) -> dict[str, Any]:
    """The fields of one failure, in the order in which Sidekiq sets them; ``before``: its ``retry_count``."""
    error = {"error_message": failure.message, "error_class": failure.error_class}
    place = {"queue": _retry_queue(job) or queue}
    return {
        **place,
        **error,
        **_time_fields(job, before, stamp),
        "retry_count": 0 if before is None else before + 1,
        **_backtrace_field(job, failure),
    }


def _retry_queue(job: SidekiqJob) -> str | None:
    name = job.fields.get("retry_queue")
    return name if isinstance(name, str) else None


def _time_fields(job: SidekiqJob, before: int | None, stamp: float | int) -> dict[str, float | int]:
    """``failed_at`` for the first failure, ``retried_at`` for each later one.

    One that lost its ``failed_at`` gets a new one: the Web UI raises without it, and ``retry_for`` would
    never end.
    """
    if before is None:
        return {"failed_at": stamp}
    first = {"failed_at": stamp} if job.failed_at is None else {}
    return {**first, "retried_at": stamp}


def _backtrace_field(job: SidekiqJob, failure: Failure) -> Mapping[str, str]:
    wanted = job.fields.get("backtrace")
    if wanted is None or not wants_backtrace(job):
        return {}
    lines = failure.backtrace if wanted is True else failure.backtrace[: _to_i(wanted)]
    return {"error_backtrace": backtrace.encode(lines)}


def _exhausted(
    job: SidekiqJob, option: Json, count: int, rules: RetryRules, now: float, limit: int | None
) -> bool:
    if limit is not None and count >= limit:
        return True
    most = limit if limit is not None and type(option) is not int else _max_retries(option, rules)
    retry_for = _retry_for(job, rules.family)
    if retry_for is None:
        return count >= most
    first_failure = now if job.retry_count is None or job.failed_at is None else job.failed_at
    timed_out = first_failure + retry_for <= now
    return timed_out or (rules.family is not Family.EIGHT_1 and count >= most)


def _retry_for(job: SidekiqJob, family: Family) -> float | None:
    """Seconds since the first failure, where this family knows the option and it is a number."""
    value = job.fields.get("retry_for")
    if family is Family.SIX or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return max(-_ENDLESS_SECONDS, min(value, _ENDLESS_SECONDS))


def _max_retries(option: Json, rules: RetryRules) -> int:
    """``true``, ``"5"`` and ``2.0`` all mean the default; 0 is a number, not false."""
    return option if type(option) is int else rules.max_retries


def _delay_seconds(
    count: int,
    rules: RetryRules,
    rng: random.Random,
    delay: Callable[[int], float | None] | None,
    delay_is_final: bool,
) -> float:
    custom = delay(count) if delay else None
    if custom is None or not math.isfinite(custom):
        return _curve_seconds(count) + _jitter_seconds(count, rules.family, rng)
    if delay_is_final:
        return max(0.0, min(custom, LONGEST_DELAY_SECONDS))
    base = int(custom) if custom >= 1 else _curve_seconds(count)
    return base + _jitter_seconds(count, rules.family, rng)


def _curve_seconds(count: int) -> int:
    return _step(count) ** 4 + 15


def _jitter_seconds(count: int, family: Family, rng: random.Random) -> int:
    if family in (Family.SIX, Family.SEVEN):
        return rng.randrange(10) * (_step(count) + 1)
    return rng.randrange(10 * (_step(count) + 1))


def _step(count: int) -> int:
    return max(0, min(count, _LONGEST_CURVE))


def _to_i(value: object) -> int:
    """Ruby's ``to_i`` for what a payload may hold."""
    if isinstance(value, str):
        number = re.match(r"\s*[+-]?\d{1,9}", value)
        return int(number[0]) if number else 0
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and math.isfinite(value) else 0
