"""Celery's ``result_expires``, in seconds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any


def seconds(value: Any) -> int:
    """Whole seconds of a number or a timedelta. Raises ValueError with what to write."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 1e9:
        raise ValueError("a result stays for a time. Write a number of seconds")
    return int(value)
