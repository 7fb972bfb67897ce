"""Backtraces as Sidekiq stores them in ``error_backtrace`` and as its Web UI can show them."""

from __future__ import annotations

import base64
import html
import json
import re
import traceback
import zlib
from collections.abc import Iterable
from types import TracebackType
from typing import Any, cast

from bridge.sidekiq.payload import ruby_json

LONGEST_BYTES = 1 << 20

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s*File "(?P<file>.*)", line (?P<line>\d+)(?:, in (?P<name>.*))?$', re.MULTILINE)


def encode(lines: Iterable[str]) -> str:
    """Base64 (one line) of the deflated JSON array: what 6.4 to 8.1 all read."""
    return base64.b64encode(zlib.compress(ruby_json.encode_value(list(lines)))).decode()


def decode(stored: object) -> list[str]:
    """The lines of an ``error_backtrace``; none where it is not one, or longer than ``LONGEST_BYTES``."""
    return [str(line) for line in _decoded(stored) or ()]


def is_stored(value: object) -> bool:
    """Whether Sidekiq's pages can read this ``error_backtrace``."""
    return _decoded(value) is not None


def _decoded(stored: object) -> list[Any] | None:
    try:
        packed = base64.b64decode(stored if isinstance(stored, str) else "")
        lines = json.loads(zlib.decompressobj().decompress(packed, LONGEST_BYTES))
    except (ValueError, RecursionError, zlib.error):
        return None
    return lines if isinstance(lines, list) else None


def python_lines(error: BaseException | str) -> list[str]:
    """The frames of an exception, or of a traceback's text, innermost first as in Ruby.

    HTML-escaped: no version of the Web UI escapes a backtrace, so ``<module>`` would vanish as a tag. Text
    without frames comes line by line.
    """
    return escaped(frames(error))


def frames(error: BaseException | str) -> list[str]:
    """The same, not escaped."""
    return _text_lines(error) if isinstance(error, str) else _exception_lines(error)


def escaped(lines: Iterable[str]) -> list[str]:
    """For the Web UI."""
    return [html.escape(line, quote=False) for line in lines]


def traceback_of(error: BaseException) -> TracebackType | None:
    """The traceback of an exception, past any attribute access of its own."""
    descriptor: Any = BaseException.__traceback__
    return cast("TracebackType | None", descriptor.__get__(error))


def _exception_lines(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(traceback_of(error))
    return [_line(frame.filename, frame.lineno or 0, frame.name) for frame in reversed(frames)]


def _text_lines(text: str) -> list[str]:
    """Of chained tracebacks the last one is the error's own."""
    own = text.rpartition(_TRACEBACK)[2]
    frames = [_line(match["file"], match["line"], match["name"] or "") for match in _FRAME.finditer(own)]
    return frames[::-1] or [line.strip() for line in text.splitlines() if line.strip()]


def _line(file: str, line: int | str, name: str) -> str:
    return f"{file}:{line}:in `{name}'"
