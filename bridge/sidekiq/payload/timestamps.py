"""The two units of a payload's timestamps.

Sidekiq 6 and 7 write float seconds, 8 writes integer milliseconds and tells the two apart by their JSON type.
Scores of sets, ``beat`` and ``started_at`` are float seconds in every version and need nothing from here.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

#: An integer above this is milliseconds (as seconds it would be the year 5138). Sidekiq 8 takes any integer
#: as milliseconds, 6 and 7 as seconds; both are right for what they wrote themselves.
_MILLISECONDS_ABOVE = 10**11


def _milliseconds(now_seconds: float) -> int:
    return int(now_seconds * 1000)


class Timestamps(enum.Enum):
    """How new timestamps are written; every unit is read."""

    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"

    def __init__(self, unit: str) -> None:
        self.stamp: Callable[[float], float | int] = float if unit == "seconds" else _milliseconds
        """The JSON value for an epoch time: a float (never an int) of seconds, or an int of milliseconds."""


def seconds(value: object) -> float | None:
    """Epoch seconds of a timestamp that any Sidekiq version wrote; None for any other value."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    return _integer_seconds(value) if type(value) is int else None


def _integer_seconds(value: int) -> float | None:
    try:
        return value / 1000 if value > _MILLISECONDS_ABOVE else float(value)
    except OverflowError:  # an integer beyond the range of floats is not a time
        return None
