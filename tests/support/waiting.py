"""Waiting for conditions, never for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.02


class NeverHappened(AssertionError):
    """What was waited for did not come about in time."""


def wait_for(condition: Callable[[], T], what: str, seconds: float = 15.0) -> T:
    """The first true value of ``condition``. Raises NeverHappened, with the last value seen."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise NeverHappened(f"{what}: not within {seconds:g} s; last seen: {value!r}")
        time.sleep(LOOK_SECONDS)
    return value


def wait_until_equal(read: Callable[[], T], wanted: T, what: str, seconds: float = 15.0) -> None:
    """Wait until ``read()`` gives ``wanted``; the failure shows both."""
    deadline = time.monotonic() + seconds
    while (value := read()) != wanted:
        if time.monotonic() > deadline:
            raise NeverHappened(f"{what}: wanted {wanted!r}, still {value!r} after {seconds:g} s")
        time.sleep(LOOK_SECONDS)


def holds_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Fail as soon as ``condition`` is false within ``seconds``: for what must *not* happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"{what}: did not hold"
        time.sleep(LOOK_SECONDS)
