"""The content of one limit. Each function raises ValueError with a sentence for the user."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.limits.key_path import KeyPath
from bridge.sidekiq.payload.queue_names import QUEUE_NAME

FIELDS = ("name", "class", "queue", "concurrency", "rate", "key")
OWN_FIELDS = ("concurrency", "rate", "key")
"""Fields of the limit that a job brings along."""
EXAMPLE = '{"class": "SyncJob", "concurrency": 3}'
LARGEST = 1_000_000
#: A start that comes late lets the next one come early by this share of the time between two. Below 1, at
#: most N + 1 starts fit into the time of N: the k-th start after a late one comes k intervals later, less
#: this share. The rest of an interval is for the way from Redis to the job.
CATCH_UP_SHARE = 0.8
#: By this at least: a machine is late by milliseconds, whatever the rate.
CATCH_UP_SECONDS = 0.05
#: A rate whose share makes up for less than this notes its last starts (``limit_rate.lua``). Then only the
#: start that comes N later keeps that distance, and starts that are late by up to this are made up.
LATE_SECONDS = 2.0
#: The most starts that are noted: they take 20 bytes of Redis each.
MOST_NOTED = 1000

_RATE = re.compile(r"\s*(\d{1,9})\s*/\s*(\d{0,6})\s*([a-z]+)\s*", re.ASCII)
_WORD = re.compile("[a-z]{3,}s")  # "ms" is not minutes
_UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_UNITS |= {"d": 86_400, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``concurrency`` jobs at once, and ``interval`` seconds between two starts, for each key."""

    name: str
    job_class: str | None = None
    queue: str | None = None
    concurrency: int | None = None
    rate: str | None = None
    interval: float | None = None
    starts: int = 0
    """The N of a rate."""
    key: KeyPath | None = None

    @property
    def script_args(self) -> tuple[str, str, str]:
        """As ``limit_gate.lua`` takes them, behind the name of the list."""
        most = "" if self.concurrency is None else str(self.concurrency)
        if self.interval is None:
            return most, "", "0 0"
        early = max(self.interval * CATCH_UP_SHARE, CATCH_UP_SECONDS)
        # As many as keep the time of N, though each of them may come early.
        noted = self.starts + math.ceil(early / self.interval - 1e-9)
        if early >= LATE_SECONDS or noted > MOST_NOTED:
            noted = 0
        return most, repr(self.interval), f"{early!r} {noted}"

    def covers(self, job_class: str | None, queue: str) -> bool:
        """Whether a job of this class in this queue counts."""
        return self.job_class in (None, job_class) and self.queue in (None, queue)

    def is_within(self, other: Limit) -> bool:
        """Whether each job that counts here counts there too, and for one key of that limit only."""
        return (
            other is not self
            and other.job_class in (None, self.job_class)
            and other.queue in (None, self.queue)
            and (other.key is None or (self.key is not None and other.key.text == self.key.text))
        )

    def keeps_place(self, other: Limit) -> str:
        """How a job that waits at the wider limit ``other`` keeps a place here (``limit_enter.lua``)."""
        return "1" if self.is_within(other) else "2" if other is not self else "0"

    @property
    def narrowness(self) -> tuple[int, bool, bool, int]:
        """Sorts the limits of a job, narrow ones last: a place is kept there while it waits at a wider one.

        A limit within another one has more of class, queue and key. Of limits that only overlap, a rate is
        wide, for starts come by themselves; so is a queue, which has the jobs of other classes too.
        """
        fields = sum(field is not None for field in (self.job_class, self.queue, self.key))
        return fields, self.rate is None, self.job_class is not None, -(self.concurrency or 0)

    def as_json(self) -> dict[str, Any]:
        """The declaration, as other processes read it."""
        found = {
            "name": self.name,
            "class": self.job_class,
            "queue": self.queue,
            "concurrency": self.concurrency,
            "rate": self.rate,
            "key": self.key and self.key.text,
        }
        return {name: value for name, value in found.items() if value is not None}


def limits(value: object) -> tuple[Limit, ...]:
    """All limits of one worker, from YAML or JSON."""
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"limits are a list; write for example [{EXAMPLE}]")
    found = tuple(_numbered(entry, number) for number, entry in enumerate(value, 1))
    names: dict[str, int] = {}
    for number, limit in enumerate(found, 1):
        first = names.setdefault(limit.name, number)
        if first != number:
            raise ValueError(
                f"limits {first} and {number} are both called {limit.name!r}; join them, or give one a name"
            )
    return found


def _numbered(entry: object, number: int) -> Limit:
    try:
        return limit(entry)
    except ValueError as error:
        raise ValueError(f"limit {number}: {error}") from None


def limit(entry: object) -> Limit:
    """One declared limit."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"a limit is an object, this is {_shown(entry)}; write for example {EXAMPLE}")
    _check_fields(entry, FIELDS)
    job_class, queue = _text(entry, "class"), _text(entry, "queue")
    if job_class is None and queue is None:
        raise ValueError(
            f'class or queue is missing; write for example {EXAMPLE} or {{"queue": "mailers", ...}}'
        )
    if queue is not None and not QUEUE_NAME.fullmatch(queue):
        raise ValueError(f"{queue!r} is not a queue's name (letters, digits and _ : . -)")
    return _limit(_text(entry, "name"), job_class, queue, entry)


def own_limit(entry: object, job_class: str) -> Limit:
    """A limit that a job of this class brings along as ``bridge_limit``."""
    if not isinstance(entry, Mapping):
        raise ValueError(
            f'bridge_limit is an object, this is {_shown(entry)}; write for example {{"concurrency": 3}}'
        )
    _check_fields(entry, OWN_FIELDS)
    return _limit(None, job_class, None, entry)


def _limit(name: str | None, job_class: str | None, queue: str | None, entry: Mapping[Any, Any]) -> Limit:
    concurrency, rate = entry.get("concurrency"), entry.get("rate")
    if concurrency is None and rate is None:
        raise ValueError(f"concurrency or rate is missing; write for example {EXAMPLE}")
    path = _text(entry, "key")
    key = None if path is None else KeyPath.parse(path)
    parts = [job_class, queue and f"queue={queue}"]
    given = ",".join(part for part in parts if part) + (f"/{key.text}" if key else "")
    starts, interval = (0, None) if rate is None else pace_of(rate)
    return Limit(
        name or given,
        job_class,
        queue,
        None if concurrency is None else _concurrency(concurrency),
        None if rate is None else str(rate),
        interval,
        starts,
        key,
    )


def _check_fields(entry: Mapping[Any, Any], known: Sequence[str]) -> None:
    for name in entry:
        if name not in known:
            raise ValueError(f"{name!r} is not a field of a limit; known are {', '.join(known)}")


def _text(entry: Mapping[Any, Any], field: str) -> str | None:
    value = entry.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{field} must be a text, this is {_shown(value)}")
    return value.strip()


def _concurrency(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise ValueError(
            f"concurrency must be a whole number from 1, this is {_shown(value)}; "
            "to let no job of a queue run, pause the queue"
        )
    return value


def pace_of(rate: object) -> tuple[int, float]:
    """The number, and seconds between two starts: 10 and 0.1 for ``"10/s"``, 1 and 2.0 for ``"1/2s"``."""
    match = _RATE.fullmatch(rate.lower()) if isinstance(rate, str) else None
    unit = match and (_UNITS.get(match[3]) or _UNITS.get(match[3][:-1] if _WORD.fullmatch(match[3]) else ""))
    if not match or not unit or not int(match[1]) or not int(match[2] or 1):
        raise ValueError(f'{_shown(rate)} is not a rate; write for example "10/s", "100/m" or "1/5s"')
    seconds = unit * int(match[2] or 1) / int(match[1])
    if not math.isfinite(seconds) or seconds > 86_400 * 366:
        raise ValueError(f"{_shown(rate)} is less than one start a year; pause the queue instead")
    return int(match[1]), seconds


def _shown(value: object) -> str:
    return repr(value)[:60]
