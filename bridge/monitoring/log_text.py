"""Text of other parties on its way into a log or onto a terminal."""

from __future__ import annotations

import re
from typing import Any

#: Control characters, the line separators that Unicode adds, and marks that turn the direction of text.
_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]")

#: The way to write a character that the encoding of a stream does not have.
UNWRITABLE = "backslashreplace"


def tolerant(stream: Any) -> Any:
    """The stream, which now writes every text: a character that its encoding lacks becomes an escape.

    One class with an umlaut on an ASCII stdout, or half a surrogate pair, cost all lines of a batch.
    """
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=UNWRITABLE)
    return stream


def escaped(text: str) -> str:
    """The text with control characters as escapes, and each line but the first indented.

    Payloads and exceptions hold line breaks, which forge records, and sequences that act on a terminal.
    """
    if text.isprintable():
        return text
    text = _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
    return text.replace("\n", "\n  ")
