"""Keeps Sidekiq's pages of ``retry`` and ``dead`` open for jobs with odd fields, as any client may push them.

The Web UI of 6.4 to 8.1 raises at ``tags: 5``, ``failed_at: []`` or ``error_backtrace: 7``: the page of that
job answers 500, and often the whole list. A field that would do this gets a harmless value. Its own value is
kept under :data:`ORIGINAL`, which the page shows among the extras.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge.errors import MalformedPayload
from bridge.sidekiq.payload import active_job, backtrace, ruby_json

#: The field that keeps the values which a page could not show.
ORIGINAL = "bridge_original"
#: A year far beyond every real one, in ms.
LAST_MOMENT = 1e14
_JID = re.compile(r"[^/?#\s]{1,200}")

_Fields = Mapping[str, Any]


def mended(raw: bytes, shown: _Fields) -> dict[str, Any]:
    """The fields to set so that the pages open. ``shown`` is the entry as it would be stored."""
    found = {name: value for name, rule in _RULES.items() if (value := rule(raw, shown)) is not _GOOD}
    if not found:
        return {}
    before = shown.get(ORIGINAL, {})
    kept = {name: shown[name] for name in found if name in shown}
    kept |= before if isinstance(before, dict) else {ORIGINAL: before}
    if kept:
        found[ORIGINAL] = {name: _storable(value) for name, value in kept.items()}
    ruby_json.encode(found)  # what cannot be written must raise here, where the caller expects it
    return found


def _storable(value: Any) -> Any:
    """The value; its JSON as text where an entry cannot hold it: Infinity, too deep, not UTF-8."""
    try:
        _, is_ruby_only = ruby_json.parse(ruby_json.encode({ORIGINAL: {"": value}}))
    except (ValueError, MalformedPayload):
        return json.dumps(value)
    is_storable = not is_ruby_only and _is_text(json.dumps(value, ensure_ascii=False))
    return value if is_storable else json.dumps(value)


def _is_text(value: object) -> bool:
    """Whether this is a text that HTML can hold: Ruby's escaping raises at bytes that are not UTF-8."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


class _Good:
    """Marks a value that the pages show as it is."""


_GOOD = _Good()

Rule = Callable[[bytes, _Fields], Any]


def _jid(raw: bytes, shown: _Fields) -> Any:
    """The address of the page holds it. An entry without one could not be opened, retried or deleted."""
    value = shown.get("jid")
    if isinstance(value, str) and _JID.fullmatch(value) and _is_text(value):
        return _GOOD
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return hashlib.sha256(raw).hexdigest()[:24]


def _tags(_: bytes, shown: _Fields) -> Any:
    value = shown.get("tags")
    if value is None or (isinstance(value, list) and all(map(_is_text, value))):
        return _GOOD
    return [str(tag).encode("utf-8", "replace").decode() for tag in value] if isinstance(value, list) else []


def _time(name: str, needed_with: str = "") -> Rule:
    """``needed_with``: with this field the page shows the time."""

    def rule(_: bytes, shown: _Fields) -> Any:
        value, needed = shown.get(name), shown.get(needed_with) is not None
        if (value is None and not needed) or _is_moment(value):
            return _GOOD
        later = shown.get("retried_at")
        return (later if _is_moment(later) else time.time()) if needed else None

    return rule


def _is_moment(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LAST_MOMENT


def _retry_count(_: bytes, shown: _Fields) -> Any:
    value = shown.get("retry_count")
    return _GOOD if value is None or type(value) is int else 0


def _error_backtrace(_: bytes, shown: _Fields) -> Any:
    value = shown.get("error_backtrace")
    return _GOOD if value is None or backtrace.is_stored(value) else None


def _encrypt(_: bytes, shown: _Fields) -> Any:
    """The page replaces the last argument of an encrypted job."""
    args = shown.get("args")
    return _GOOD if not shown.get("encrypt") or (isinstance(args, list) and args) else None


def _queue(_: bytes, shown: _Fields) -> Any:
    return _GOOD if _is_text(shown.get("queue")) else "default"


def _args(_: bytes, shown: _Fields) -> Any:
    """The page looks into the arguments of an ActiveJob, and takes those of a mail apart."""
    job_class, wrapped, args = shown.get("class"), shown.get("wrapped"), shown.get("args")
    if not isinstance(job_class, str) or job_class not in active_job.WRAPPERS:
        return _GOOD
    first = args[0] if isinstance(args, list) and args else None
    inner = first.get("arguments") if isinstance(first, dict) else None
    is_mail = isinstance(wrapped, str) and wrapped in active_job.MAILERS
    mail = isinstance(inner, list) and len(inner) > 3 and isinstance(inner[3], dict)
    if isinstance(inner, list) and (mail or not is_mail):
        return _GOOD
    return [{"arguments": ["?", "?", "deliver_now", {"args": []}] if is_mail else []}]


_RULES: dict[str, Rule] = {
    "jid": _jid,
    "queue": _queue,
    "tags": _tags,
    "created_at": _time("created_at"),
    "enqueued_at": _time("enqueued_at"),
    "retried_at": _time("retried_at"),
    "failed_at": _time("failed_at", "retry_count"),
    "retry_count": _retry_count,
    "error_backtrace": _error_backtrace,
    "encrypt": _encrypt,
    "args": _args,
}
