"""Values as other processes write them into Redis: whatever they are, they become what is expected."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any


def object_of(text: object) -> dict[str, Any]:
    """A JSON object, or nothing where it is none: anybody can write into these keys."""
    try:
        value = json.loads(text) if isinstance(text, bytes | str) else text
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def list_of(value: object) -> Sequence[bytes]:
    return value if isinstance(value, list) else []


def int_of(value: object) -> int:
    return int(float_of(value))


def float_of(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever it is not, it raises
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0
