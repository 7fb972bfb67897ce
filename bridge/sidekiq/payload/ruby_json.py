"""JSON as Ruby's ``JSON.parse`` reads it, 2.6 and later, and ``JSON.generate`` writes it.

The fast path is pydantic's decoder. It takes a third to a half of the time of Python's own, returns the same
values, and refuses more: what it refuses, Python's decoder reads. Only what that refuses is looked at again
with Ruby's eyes: comments, invalid UTF-8 inside strings, needless escapes and integers of any length. Where
Ruby versions differ (a lone high surrogate) the lenient one is followed: a payload that the sidecar's Ruby
then refuses is buried there, while one refused here would never reach it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic_core import from_json

from bridge.errors import MalformedPayload

Json = Any
"""Whatever ``JSON.parse`` returns."""

#: Ruby's ``max_nesting``: arrays and objects together, the outermost one counted.
MAX_NESTING = 100
#: Above this size a search for 100 brackets is faster than a count of all of them.
SHORT_BYTES = 2048

#: The parts of JSON text, over bytes. ``splice`` walks payloads with the same definitions.
STRING = rb'"[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+"'
COMMENT = rb"/\*(?s:.*?)\*/|//[^\n]*+\n"

_STRING_OR_COMMENT = re.compile(f'({STRING.decode()})|({COMMENT.decode()})|(["/])')
#: For ``translate``: drops all but brackets and quotes, and makes one kind of two kinds of brackets.
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_ESCAPED_QUOTE = re.compile(rb'\\["\\]')
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_BRACKET = re.compile(STRING + rb"|" + COMMENT + rb'|([\[{])|([\]}])|(["/])')
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|["\\/bfnrt])|\\(.)', re.DOTALL)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON to Ruby")


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        # More digits than Python converts (a guard against quadratic time). Ruby has no limit, so the job is
        # a job; the digits stay readable, and the exact bytes stay in the payload.
        return digits


_strict = json.JSONDecoder(parse_constant=_refuse_constant)
_writer = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_lenient = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)


def parse(raw: bytes, *, is_shallow: bool = False) -> tuple[Json, bool]:
    """The value, and whether only Ruby's parser (not Python's) accepts these bytes.

    ``is_shallow``: an outline has counted the levels already.

    Strings of a Ruby-only value carry invalid bytes as lone surrogates (``surrogateescape``), and integers
    beyond Python's digit limit as text. Raises MalformedPayload.
    """
    try:
        value = from_json(raw, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        return _parse_slowly(raw)
    if not is_shallow and _has_many_brackets(raw) and _is_too_deep(raw):
        raise _too_deep()
    return value, False


def _parse_slowly(raw: bytes) -> tuple[Json, bool]:
    if _has_many_brackets(raw) and _nesting(raw) > MAX_NESTING:
        raise _too_deep()
    try:
        return _strict.decode(raw.decode()), False
    except ValueError:  # UnicodeDecodeError and JSONDecodeError among them
        return _parse_leniently(raw), True


def encode(fields: Mapping[str, Any]) -> bytes:
    """A new payload, on one line as ``JSON.generate`` writes it. Raises ValueError for NaN and Infinity."""
    return encode_value(dict(fields))


def encode_value(value: object) -> bytes:
    """One JSON value; the only place where payloads are written. Raises ValueError for NaN and Infinity."""
    text = _writer.encode(value)
    # Only lone surrogates cannot be UTF-8; Python's backslash form of them is JSON's own escape.
    return text.encode("utf-8", "backslashreplace")


def decode_string(literal: bytes) -> str:
    """The text of one JSON string literal, quotes included, that ``STRING`` matched."""
    if b"\\" not in literal:
        return literal[1:-1].decode("utf-8", "surrogateescape")
    text: str = _lenient.decode(_readable_string(literal.decode("utf-8", "surrogateescape")))
    return text


def _parse_leniently(raw: bytes) -> Json:
    text = raw.decode("utf-8", "surrogateescape")
    try:
        return _lenient.decode(_STRING_OR_COMMENT.sub(_readable, text))
    except ValueError as error:
        raise MalformedPayload(f"not JSON as Ruby reads it: {error}") from None


def _readable(match: re.Match[str]) -> str:
    string, comment, stray = match.groups()
    if stray:
        raise ValueError(f"unfinished string or comment at character {match.start()}")
    return " " if comment else _readable_string(string)


def _readable_string(literal: str) -> str:
    return _ESCAPE.sub(_standard_escape, literal) if "\\" in literal else literal


def _standard_escape(match: re.Match[str]) -> str:
    """Ruby reads an escaped character that needs no escape as itself."""
    if match[2] == "u":
        raise ValueError("a \\u without four hexadecimal digits")
    return match[2] or match[0]


def _too_deep() -> MalformedPayload:
    return MalformedPayload(f"nested deeper than {MAX_NESTING} levels")


def _has_many_brackets(raw: bytes) -> bool:
    """Whether there are more opening brackets than levels that Ruby allows. Strings may hold them too."""
    if len(raw) < SHORT_BYTES:
        return raw.count(b"[") + raw.count(b"{") > MAX_NESTING
    left = MAX_NESTING
    for bracket in (b"[", b"{"):
        position = raw.find(bracket)
        while position >= 0:
            if not left:
                return True
            left -= 1
            position = raw.find(bracket, position + 1)
    return False


def _is_too_deep(raw: bytes) -> bool:
    """Whether standard JSON is nested too deeply. A walk through its brackets costs ten times as much."""
    return not _closes(_brackets(raw), MAX_NESTING)


def is_one_array(text: bytes) -> bool:
    """Whether the brackets of this part of an object are those of one array, not too deep for a value in it.

    It begins and ends with a bracket, and has no comments. The caller cares about nothing else in it.
    """
    return _closes(_brackets(text)[1:-1], MAX_NESTING - 2)


def _closes(brackets: bytes, levels: int) -> bool:
    """Whether each opening bracket has its closing one behind it, in at most this number of levels."""
    for _ in range(levels):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"")  # takes the innermost level away
    return not brackets


def _brackets(raw: bytes) -> bytes:
    """The brackets outside of texts, of one kind."""
    if b"\\" in raw:
        raw = _ESCAPED_QUOTE.sub(b"", raw)
    # A quote that stays begins or ends a string. Most strings hold no bracket and are empty now. To drop
    # several at once takes half of the time.
    marks = raw.translate(_ONE_KIND, _NO_STRUCTURE).replace(b'"' * 8, b"").replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2])


def _nesting(raw: bytes) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.finditer(raw):
        if bracket[1]:
            depth += 1
            deepest = max(deepest, depth)
        elif bracket[2]:
            depth -= 1
        elif bracket[3]:  # going on would look for the end of each such comment again
            raise MalformedPayload(f"unfinished string or comment at byte {bracket.start()}")
    return deepest
