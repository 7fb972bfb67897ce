"""Takes a job's arguments out of texts about it: messages of exceptions like to quote them.

A value is found as a whole word, as it stands and as Python's ``repr`` or JSON would write it: ``fail`` is
hidden in "cannot fail" and stays in "failed". Values shorter than four characters stay: they say nothing
alone, and their letters are in every text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

SHORTEST = 4
MOST_VALUES = 500
HIDDEN = "***"

#: A word ends where its letters and digits end. An underscore ends it too: ``user_4711`` names user 4711.
_BEFORE = (
    r"(?:(?<![^\W_])"
    # The n of an escaped line break is not a letter of the word that follows it.
    r"|(?<=\\[nrtbfv])|(?<=\\x[0-9a-f]{2})|(?<=\\u[0-9a-f]{4})|(?<=\\U[0-9a-f]{8}))"
)
_AFTER = r"(?![^\W_])"


def scrub(text: str, args: Any) -> str:
    """The text with every argument out of sight, longer ones first."""
    found = {form for value in _values(args) for form in _forms(value) if len(form) >= SHORTEST}
    present = sorted((form for form in found if form in text), key=len, reverse=True)
    return _words(present).sub(HIDDEN, text) if present else text


def _words(forms: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(_word(form) for form in forms))


def _word(form: str) -> str:
    before, after = (
        rule if _needs_edge(char) else "" for rule, char in ((_BEFORE, form[0]), (_AFTER, form[-1]))
    )
    return f"{before}{re.escape(form)}{after}"


def _needs_edge(char: str) -> bool:
    """Scripts without capitals (Chinese, Thai, Arabic) may set words without spaces between them."""
    return char.isdigit() or char.lower() != char.upper()


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
