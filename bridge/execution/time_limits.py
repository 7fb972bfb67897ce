"""Time limits: how long a job may run, by its payload, its class, its task, or for all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.errors import PushRefused
from bridge.sidekiq.payload.job import SidekiqJob

logger = logging.getLogger(__name__)

#: Keys of a payload, put there by ``sidekiq_options time_limit: 300`` in Ruby and in Python alike. The words
#: are Celery's: Sidekiq has none of its own.
HARD = "time_limit"
SOFT = "soft_time_limit"
#: Ten years. A larger number may be more than a float holds or a thread can wait for.
LONGEST_SECONDS = 315_360_000
#: In ``BRIDGE_TIME_LIMITS``: every class that is not named.
ANY_CLASS = "*"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds from the start of a run. ``hard`` ends it; ``soft`` raises an exception that it may catch."""

    hard: float | None = None
    soft: float | None = None

    def __bool__(self) -> bool:
        return self.hard is not None or self.soft is not None


NONE = Limits()


def of_push(name: str, options: Mapping[str, Any], task: Any = None) -> dict[str, float]:
    """The fields of a payload that carry the limits of one push. Celery adds the task's own: not carried.

    Raises PushRefused for a value that is not in seconds.
    """
    found: dict[str, float] = {}
    for key in (HARD, SOFT):
        value = options.get(key)
        if value is None or value == getattr(task, key, None):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_SECONDS:
            raise PushRefused(f"{name}: {key}={value!r}: write seconds, above 0 and up to ten years.")
        found[key] = value
    return found


class TimeLimits:
    """The nearest to the job counts: its payload, the setting for its class, its task, what holds for all."""

    def __init__(self, by_class: Mapping[str, float], default: Limits = NONE) -> None:
        self._by_class = by_class
        self.set_default(default)
        self._complained: set[str] = set()

    def set_default(self, limits: Limits) -> None:
        """Celery's own limits (``--time-limit``): they hold where nothing nearer to the job says more."""
        self.default = limits or NONE
        self.hold_for_all = bool(self._by_class) or self.default is not NONE
        """Whether a job may have a limit that neither it nor its task names."""

    def of(self, job: SidekiqJob, task: Any = None) -> Limits:
        """The limits of a run, ``NONE`` itself where there are none. A native job has a ``task``."""
        hard = self._number(job, HARD) or self._by_class.get(job.native_class or "")
        hard = hard or getattr(task, HARD, None) or self._by_class.get(ANY_CLASS) or self.default.hard
        soft = self._number(job, SOFT) or getattr(task, SOFT, None) or self.default.soft
        if task is None and job.fields.get(SOFT) is not None:
            self._complain(job.native_class or "", SOFT, soft, "Ruby runs the job; write time_limit")
        return Limits(hard, soft) if hard or soft else NONE

    def _number(self, job: SidekiqJob, key: str) -> float | None:
        value = job.fields.get(key)
        if value is None or value is False:
            return None
        if isinstance(value, int | float) and value is not True and 0 < value <= LONGEST_SECONDS:
            return float(value)
        self._complain(job.native_class or "", key, value, "write seconds, up to ten years")
        return None

    def _complain(self, name: str, key: str, value: Any, advice: str) -> None:
        """Once for each class: who pushes such a job pushes many."""
        if name not in self._complained:
            self._complained.add(name)
            logger.warning("%s: %s %.100r is ignored: %s", name, key, value, advice)
