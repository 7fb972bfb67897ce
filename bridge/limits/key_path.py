"""Key paths: the part of a payload by which a limit counts, and that value as text.

Ruby's side of the limits writes the same text for the same value (``sidekiq_bridge/limits``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from bridge.sidekiq.payload.job import SidekiqJob

ALL: Final = "all"
"""The key of a limit that has no key path."""
MISSING: Final = "(none)"
"""The key of jobs in which the path leads nowhere: they count together."""
LONGEST_KEY_BYTES = 100

_PATH = re.compile(r"(args\.\d{1,3}|cattr\.[^.\s]+|(?!args\b|cattr\b)[^.\s]+)(\.[^.\s]+)*", re.ASCII)
_GLOBAL_ID = "_aj_globalid"
_SERIALIZED = "_aj_serialized"


@dataclass(frozen=True, slots=True)
class KeyPath:
    """``args.N[.name]``, ``cattr.name``, or a field of the payload."""

    text: str
    steps: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> KeyPath:
        """Raises ValueError with a sentence."""
        if not _PATH.fullmatch(text):
            raise ValueError(
                f"{text!r} is not a key path; write args.N, args.N.name, cattr.name or a field of a payload"
            )
        return cls(text, tuple(text.split(".")))

    def key(self, job: SidekiqJob) -> str | None:
        """The value in this job as text; None where the path leads nowhere."""
        first, *rest = self.steps
        if first == "args":
            return _down(_arguments(job), rest)
        if first == "cattr":
            return next((key for attrs in _attributes(job) if (key := _down(attrs, rest)) is not None), None)
        return _down(dict(job.whole), self.steps)


def _arguments(job: SidekiqJob) -> list[Any]:
    """Also of a large job, of which an outline was read; none where they are malformed."""
    whole = SidekiqJob(job.raw, job.whole)
    return _inner(whole) if whole.is_active_job else whole.args


def _inner(job: SidekiqJob) -> list[Any]:
    """The arguments of an ActiveJob as they are serialised."""
    first = job.args[0] if job.args else None
    found = first.get("arguments") if isinstance(first, dict) else None
    return found if isinstance(found, list) else []


def _attributes(job: SidekiqJob) -> Iterator[dict[Any, Any]]:
    """CurrentAttributes: an object; since Sidekiq 8 pairs as ActiveJob serialises them."""
    for name, value in job.fields.items():
        if name == "cattr" or name.startswith("cattr_"):
            if isinstance(value, dict):
                yield value
            elif isinstance(value, list):
                yield {_name(pair[0]): pair[1] for pair in value if isinstance(pair, list) and len(pair) == 2}


def _name(value: Any) -> Any:
    """A symbol is serialised as an object."""
    found = value.get("value") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None


def _down(value: Any, steps: Any) -> str | None:
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return bounded(_text(value))


def bounded(text: str) -> str:
    """A key of any length, as it is part of the names of keys in Redis."""
    raw = text.encode(errors="surrogatepass")
    if len(raw) > LONGEST_KEY_BYTES or any(byte < 32 or byte == 127 for byte in raw) or _is_broken(text):
        return "sha1:" + hashlib.sha1(raw, usedforsecurity=False).hexdigest()
    return text


def _is_broken(text: str) -> bool:
    """JSON can spell half of a surrogate pair. UTF-8, which names of keys in Redis are, cannot."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.17g}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        if set(value) == {_GLOBAL_ID}:
            return _text(value[_GLOBAL_ID])
        if _SERIALIZED in value:
            return _text(value.get("value"))
        return "{" + ",".join(f"{name}:{_text(value[name])}" for name in sorted(value)) + "}"
    return str(value)
