"""A Sidekiq job as Redis stores it: its exact bytes, and the fields in them.

Nothing about a payload is certain but that it is a JSON object: any client can push anything. So no property
raises, and each says what it makes of a value of the wrong type.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Mapping
from typing import Any

from bridge.errors import InvalidPayload, MalformedPayload
from bridge.sidekiq.payload import active_job, outline, pages, ruby_json
from bridge.sidekiq.payload import splice as splicing
from bridge.sidekiq.payload import timestamps as clock
from bridge.sidekiq.payload.ruby_json import Json

logger = logging.getLogger(__name__)

JID_BYTES = 12
#: Fields of nearly all jobs, with the types that Sidekiq's pages can show. Looked at for each failure.
_USUAL = (
    ("jid", (str,)),
    ("class", (str,)),
    ("queue", (str,)),
    ("args", (list,)),
    *((name, (float, int)) for name in ("created_at", "enqueued_at")),
    *((name, (float, int, type(None))) for name in ("failed_at", "retried_at")),
    ("retry_count", (int, type(None))),
)
#: Fields that few jobs have. The pages look into them.
_UNUSUAL = frozenset(["tags", "error_backtrace", "encrypt", "wrapped"])
_UNUSUAL_OF_HOOKS = frozenset(["tags", "encrypt", "created_at", "enqueued_at"])
_TIMES = ("created_at", "enqueued_at", "failed_at", "retried_at")


class SidekiqJob:
    """One job, for reading only: ``raw`` is the truth and goes back to Redis, ``fields`` is what it says."""

    __slots__ = ("fields", "is_outline", "jid", "job_class", "native_class", "raw", "ruby_only", "wrapped")

    def __init__(
        self, raw: bytes, fields: Mapping[str, Any], ruby_only: bool = False, *, is_outline: bool = False
    ) -> None:
        self.raw = raw
        self.fields = fields
        """All fields; of an outline those without ``args``, see ``whole``."""
        self.ruby_only = ruby_only
        """Python's parser refuses these bytes, Ruby's accepts them: ``fields`` is readable, not exact."""
        self.is_outline = is_outline
        """Whether the arguments were not read, and so may be malformed."""
        # Read a dozen times in the life of a job, so found out once.
        jid, name = fields.get("jid"), fields.get("class")
        self.jid = jid if type(jid) is str and jid.isascii() else str(jid) if type(jid) is int else _text(jid)
        """Sidekiq hands on any value; here a number is its digits, and any other type is None."""
        self.job_class = name if type(name) is str and name.isascii() else _text(name)
        """``class``: for an ActiveJob the wrapper."""
        self.wrapped = _text(fields["wrapped"]) if "wrapped" in fields else None
        """Class of the ActiveJob inside the wrapper."""
        self.native_class = self.wrapped or self.job_class
        """The class the job is about, as metrics count it and as native tasks are named."""

    @classmethod
    def parse(cls, raw: bytes) -> SidekiqJob:
        """Raises MalformedPayload (not JSON to Ruby) or InvalidPayload (JSON, but not an object)."""
        value, ruby_only = ruby_json.parse(raw)
        if not isinstance(value, dict):
            raise InvalidPayload(f"a job is a JSON object, this is {_json_type(value)}")
        return cls(raw, value, ruby_only)

    @classmethod
    def claimed(cls, raw: bytes) -> SidekiqJob:
        """As ``parse``, but an outline where that takes less time."""
        fields = outline.outline(raw) if len(raw) >= outline.SMALLEST_BYTES else None
        return cls.parse(raw) if fields is None else cls(raw, fields, is_outline=True)

    def read_whole(self) -> None:
        """Read the arguments too. Raises MalformedPayload."""
        if self.is_outline:
            self.fields, self.ruby_only = ruby_json.parse(self.raw, is_shallow=True)
            self.is_outline = False

    def forget_arguments(self) -> None:
        """An outline again: the arguments are read from the payload if anything asks for them."""
        if not self.ruby_only:
            self.fields = {name: value for name, value in self.fields.items() if name != "args"}
            self.is_outline = True

    @property
    def whole(self) -> Mapping[str, Any]:
        """All fields, the arguments among them; without those where they are malformed."""
        if self.is_outline:
            with contextlib.suppress(MalformedPayload):
                self.read_whole()
        return self.fields

    @classmethod
    def unreadable(cls, raw: bytes) -> SidekiqJob:
        """A job without fields, for bytes that ``parse`` refused: they too must be settled."""
        return cls(raw, {})

    @property
    def is_active_job(self) -> bool:
        return self.job_class in active_job.WRAPPERS

    @property
    def display_class(self) -> str | None:
        """The class as the Web UI shows it (``api.rb`` JobRecord, 7.3.3 and later)."""
        shown = _text(self.fields.get("display_class"))
        if shown:
            return shown
        return self._wrapped_display_class if self.is_active_job else self.job_class

    @property
    def shown_class(self) -> str:
        """``display_class``, or words for a job without a class."""
        name = self.job_class
        if self.wrapped is None and "display_class" not in self.fields and name not in active_job.WRAPPERS:
            return name or "(no class)"
        return self.display_class or "(no class)"

    @property
    def _wrapped_display_class(self) -> str | None:
        name = self.wrapped or _text(self._first_arg) or self.job_class
        return self._mailer_method or name if name in active_job.MAILERS else name

    @property
    def _mailer_method(self) -> str | None:
        """``Mailer#method``: the first two arguments of a mail delivery job."""
        words = self._inner_arguments[:2]
        return "#".join(words) if len(words) == 2 and all(isinstance(word, str) for word in words) else None

    @property
    def args(self) -> list[Any]:
        """As Ruby's splat reads them: nothing for null or none, pairs of an object, a scalar alone."""
        value = (self.whole if self.is_outline else self.fields).get("args")
        if isinstance(value, list):
            return value
        if isinstance(value, dict):
            return [list(pair) for pair in value.items()]
        return [] if value is None else [value]

    def native_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for a Python task: those of the ActiveJob inside the wrapper.

        Any other job's own arguments are all positional.
        """
        if self.job_class in active_job.WRAPPERS:
            return active_job.arguments(self._inner_arguments)
        return self.args, {}

    @property
    def queue(self) -> str | None:
        return _text(self.fields.get("queue"))

    @property
    def retry(self) -> Json:
        """The unchanged value: true, false, a number, or None when absent."""
        return self.fields.get("retry")

    @property
    def retry_count(self) -> int | None:
        """Failures so far minus one; None before the first. The Web UI's "Retry now" can make it -1."""
        value = self.fields.get("retry_count")
        if isinstance(value, float) and math.isfinite(value):
            return int(value)
        return value if type(value) is int else None

    @property
    def created_at(self) -> float | None:
        """Epoch seconds."""
        return _seconds(self.fields.get("created_at"))

    @property
    def enqueued_at(self) -> float | None:
        """Epoch seconds of the last push to a queue."""
        return _seconds(self.fields.get("enqueued_at"))

    @property
    def failed_at(self) -> float | None:
        """Epoch seconds of the first failure."""
        return _seconds(self.fields.get("failed_at"))

    def entry_fields(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """``fields``, and what else an entry of retry or dead needs to be shown by Sidekiq's pages."""
        own = self.whole
        is_usual = (
            not self.ruby_only
            and not (own.keys() & _UNUSUAL or fields.keys() & _UNUSUAL_OF_HOOKS)
            and all(type(own.get(name)) in kinds for name, kinds in _USUAL)
            and all(0 <= (own.get(name) or 0) < pages.LAST_MOMENT for name in _TIMES)
        )
        if is_usual:
            return fields
        try:
            return {**fields, **pages.mended(self.raw, {**own, **fields})}
        except Exception:  # a page that does not open must never cost the job its settlement
            logger.exception("jid=%s: its entry is stored as it is", self.jid)
            return fields

    def with_fields(self, fields: Mapping[str, Any]) -> bytes:
        """The exact bytes with these top-level fields set; see ``splice``."""
        if self.ruby_only or self.is_outline or not self.fields:  # without fields they may be no job at all
            return splicing.splice(self.raw, fields)
        return splicing.splice_known(self.raw, fields, self.fields)

    @property
    def _first_arg(self) -> Json:
        args = self.whole.get("args")
        return args[0] if isinstance(args, list) and args else None

    @property
    def _inner_arguments(self) -> list[Any]:
        """``arguments`` of the object that ActiveJob puts into ``args``, still serialised."""
        inner = self._first_arg
        found = inner.get("arguments") if isinstance(inner, dict) else None
        return found if isinstance(found, list) else []


def new_jid(random_bytes: bytes) -> str:
    """24 hex digits of 12 random bytes, as Sidekiq makes them."""
    if len(random_bytes) != JID_BYTES:
        raise ValueError(f"a jid is made of {JID_BYTES} random bytes, not {len(random_bytes)}")
    return random_bytes.hex()


def _text(value: object) -> str | None:
    """A string that can be encoded, or None for any other type.

    Lone surrogates (``\\ud800``, invalid bytes) would raise wherever the name of a job is logged or sent.
    """
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _seconds(stamp: object) -> float | None:
    """Epoch seconds: those of Sidekiq 6 and 7 as they are, the milliseconds of 8 divided."""
    if stamp is None or (type(stamp) is float and math.isfinite(stamp)):
        return stamp
    return clock.seconds(stamp)


def _json_type(value: object) -> str:
    if isinstance(value, list):
        return "an array"
    return "null" if value is None else f"a {type(value).__name__}"
