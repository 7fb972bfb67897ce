"""A return value as JSON, or the sentence that says why it cannot be stored."""

from __future__ import annotations

import json
import logging
from typing import Any

from bridge.sidekiq.outcome.decision import Result

logger = logging.getLogger(__name__)

#: A larger result is not stored: Redis holds it for a day.
LARGEST_BYTES = 65_536
NOTHING = Result(b"null")


def encoded(value: Any, jid: str) -> Result:
    """Encode what a job has returned. Never raises: a value that cannot be stored is an error in the log."""
    if value is None:
        return NOTHING
    try:
        text = _json(value)
    except RecursionError:
        return lost(jid, "it is nested too deeply")
    except (TypeError, ValueError, OverflowError) as error:
        return lost(jid, f"JSON cannot hold it: {_words(error)}")
    except Exception as error:  # a method of the value's own class
        return lost(jid, f"it raised {type(error).__name__} when it was encoded")
    return bounded(text, jid)


def bounded(text: bytes, jid: str) -> Result:
    """A result that is JSON already, if it is small enough."""
    if len(text) > LARGEST_BYTES:
        return lost(jid, f"it has {len(text):,} bytes of JSON, and at most {LARGEST_BYTES:,} are kept")
    return Result(text)


def lost(jid: str, reason: str) -> Result:
    """A result that is not stored; says so in the log."""
    logger.error(
        "jid=%s is done, but its result is not stored: %s. Return an id or a small object", jid, reason
    )
    return Result(b"", reason)


def shown_result(result: Result) -> str:
    """As events and Flower show it."""
    return repr(value_of(result)) if result.json else f"(not stored: {result.lost})"


def value_of(result: Result) -> Any:
    """The value again. Raises ValueError where none was stored."""
    return json.loads(result.json)


def _json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate: Ruby reads it as an escape only
        return json.dumps(value, allow_nan=False).encode()


def _words(error: Exception) -> str:
    return str(error).encode("utf-8", "replace").decode()[:200]
