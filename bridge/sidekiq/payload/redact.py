"""Takes a job's arguments out of texts about it: messages of exceptions like to quote them.

A value is found as a whole word, unchanged and as Python's ``repr`` or JSON would write it: ``fail`` is
hidden in "cannot fail" and stays in "failed". A value shorter than four characters is hidden where quotes or
brackets are around it: bare, it is in every text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

SHORTEST = 4
MOST_VALUES = 500
HIDDEN = "***"

#: The n of an escaped line break is not a letter of the word that follows it.
_ESCAPE = re.compile(r"\\(?:[nrtbfv]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})$")
_LONGEST_ESCAPE = 10
_QUOTES = (("'", "'"), ('"', '"'), ("`", "`"), ("`", "'"), ("(", ")"), ("[", "]"), ("<", ">"))


def scrub(text: str, args: Any) -> str:
    """The text with every argument out of sight, longer ones first."""
    found = {form for value in _values(args) for form in _forms(value) if form and form in text}
    for form in sorted(found, key=len, reverse=True):
        text = _without(text, form) if len(form) >= SHORTEST else _without_quoted(text, form)
    return text


def masked(value: Any, args: Any) -> Any:
    """A value of JSON in which each text and number is hidden that is an argument, however short it is."""
    return _masked(value, set(_values(args)))


def _masked(value: Any, hidden: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _masked(each, hidden) for key, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, hidden) for each in value]
    is_argument = _is_leaf(value) and str(value) in hidden
    return HIDDEN if is_argument else value


def _without_quoted(text: str, form: str) -> str:
    for before, after in _QUOTES:
        text = text.replace(f"{before}{form}{after}", f"{before}{HIDDEN}{after}")
    return text


def _without(text: str, form: str) -> str:
    """By hand: a pattern would have to be compiled for the arguments of each job."""
    pieces, done = [], 0
    place = text.find(form)
    while place >= 0:
        end = place + len(form)
        if _begins_word(text, place) and _ends_word(text, end):
            pieces += [text[done:place], HIDDEN]
            done = end
        place = text.find(form, max(done, place + 1))
    return "".join([*pieces, text[done:]])


def _begins_word(text: str, place: int) -> bool:
    """An underscore separates words: ``user_4711`` names user 4711."""
    if place == 0 or not text[place - 1].isalnum() or not _needs_edge(text[place]):
        return True
    return _ESCAPE.search(text, max(0, place - _LONGEST_ESCAPE), place) is not None


def _ends_word(text: str, end: int) -> bool:
    return end == len(text) or not text[end].isalnum() or not _needs_edge(text[end - 1])


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
        elif _is_leaf(value):
            left -= 1
            yield str(value)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _forms(value: str) -> tuple[str, str, str]:
    return value, repr(value)[1:-1], json.dumps(value)[1:-1]
