"""Checks of a change to the size of a pool."""

from __future__ import annotations


def positive(n: int) -> int:
    """``n`` itself. Raises ValueError for a number that changes nothing, or changes it the other way."""
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"{n!r} slots: write a whole number from 1")
    return n


def at_least_one(size: int) -> int:
    """``size`` itself. Raises ValueError where no slot would be left."""
    if size < 1:
        raise ValueError("a pool keeps at least one slot: use `celery control cancel_consumer`, or TSTP")
    return size
