"""Takes a job's arguments out of texts about it: messages of exceptions like to quote them.

A value is found as it stands, and as Python's ``repr`` or JSON would write it. Shorter ones than four
characters stay: they say nothing alone, and their letters are in every text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

SHORTEST = 4
MOST_VALUES = 500
HIDDEN = "***"


def scrub(text: str, args: Any) -> str:
    """The text with every argument out of sight, longer ones first."""
    found = {form for value in _values(args) for form in _forms(value) if len(form) >= SHORTEST}
    for form in sorted((form for form in found if form in text), key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text


def _values(args: Any) -> Iterator[str]:
    """The leaves: texts and numbers, keys of objects not included."""
    waiting, left = [args], MOST_VALUES
    while waiting and left:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            left -= 1
            yield str(value)


def _forms(value: str) -> tuple[str, str, str]:
    return value, repr(value)[1:-1], json.dumps(value)[1:-1]
