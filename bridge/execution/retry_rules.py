"""Which values of a task's options for retries mean something; ``retries`` reads them at each failure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_KWARGS = ("countdown", "eta", "max_retries")
_KWARGS_SENTENCE = "write only countdown, eta and max_retries in it"


def errors(_: Any, value: Any) -> str | None:
    """``autoretry_for`` and ``dont_autoretry_for``."""
    is_group = isinstance(value, tuple | list)
    if is_group and all(isinstance(each, type) and issubclass(each, BaseException) for each in value):
        return None
    return "write a tuple of exception classes"


def seconds(_: Any, value: Any) -> str | None:
    """``default_retry_delay``, ``retry_backoff_max``."""
    return None if value is None or _is_number(value) else "write seconds, from 0"


def backoff(_: Any, value: Any) -> str | None:
    """``retry_backoff``."""
    return None if value is None or isinstance(value, bool) or _is_number(value) else "write True, or seconds"


def kwargs(_: Any, value: Any) -> str | None:
    """``retry_kwargs``."""
    if not isinstance(value, Mapping) or set(value) - set(_KWARGS):
        return _KWARGS_SENTENCE
    limit, eta = value.get("max_retries"), value.get("eta")
    is_limit = limit is None or (isinstance(limit, int) and not isinstance(limit, bool))
    is_eta = eta is None or isinstance(eta, datetime | str)
    is_delay = value.get("countdown") is None or _is_number(value["countdown"])
    return None if is_limit and is_eta and is_delay else _KWARGS_SENTENCE


def is_finite(value: Any) -> bool:
    """Whether this is a number of seconds, below 0 too."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max  # math.isfinite raises at 10**400


def _is_number(value: Any) -> bool:
    return is_finite(value) and value >= 0
