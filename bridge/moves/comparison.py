"""The outcomes of a Ruby run and of its shadow, and what differs between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from bridge.sidekiq.outcome.decision import Decision, Done
from bridge.sidekiq.payload.redact import masked, scrub

MOST_CHARS = 500
_UNKNOWN = b"{}"


class Unknown:
    """Stands for a return value that was not reported."""


@dataclass(frozen=True, slots=True)
class Unheld:
    """Stands for a return value of Python that JSON cannot hold."""

    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: a return value as JSON has it, or an error in words."""

    value: Any = None
    error: str | None = None

    def shown(self, args: Any, *, show_args: bool) -> str:
        """The outcome in words, without the job's arguments unless ``show_args``."""
        text = self._text(self.value if show_args else masked(self.value, args))
        text = text if show_args else scrub(text, args)
        return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 3] + "..."

    def _text(self, value: Any) -> str:
        if self.error is not None:
            return self.error
        if isinstance(value, Unheld):
            return f"a value that JSON cannot hold: {value.reason}"
        return "done" if value is Unknown else json.dumps(value, ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Compared:
    """The verdict on a dry run. ``what`` is None where both sides agree."""

    what: str | None = None
    ruby: str = ""
    python: str = ""
    cpu_seconds: float = 0.0


def compare(ruby: Outcome, python: Outcome, args: Any, *, show_args: bool, cpu_seconds: float) -> Compared:
    """Both outcomes beside each other."""
    what = difference(ruby, python)
    if what is None:
        return Compared(cpu_seconds=cpu_seconds)
    shown = partial(Outcome.shown, args=args, show_args=show_args)
    return Compared(what, shown(ruby), shown(python), cpu_seconds)


def difference(ruby: Outcome, python: Outcome) -> str | None:
    """The name of what differs: ``outcome`` or ``return value``; None where both agree.

    Two failures agree, whatever their classes are: the languages have other names for them.
    """
    if (ruby.error is None) != (python.error is None):
        return "outcome"
    if ruby.error is not None or ruby.value is Unknown:
        return None
    return None if _same(ruby.value, python.value) else "return value"


def _same(ruby: Any, python: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are the same number, true and 1 are not."""
    if isinstance(ruby, bool) or isinstance(python, bool):
        return ruby is python
    if isinstance(ruby, dict) and isinstance(python, dict):
        return ruby.keys() == python.keys() and all(_same(ruby[key], python[key]) for key in ruby)
    if isinstance(ruby, list) and isinstance(python, list):
        return len(ruby) == len(python) and all(map(_same, ruby, python))
    return bool(ruby == python)


# -- Ruby's outcome, on its way to the process that compares


def told(decision: Decision) -> bytes:
    """The outcome of a Ruby run as JSON, from what its settlement says: ``value``, ``error``, or neither."""
    if isinstance(decision, Done):
        result = decision.result
        return _UNKNOWN if result is None or not result.json else b'{"value":' + result.json + b"}"
    fields = _parsed(getattr(decision, "payload", b""))
    said = fields if isinstance(fields, dict) else {}
    kind, message = said.get("error_class") or "failed", said.get("error_message") or ""
    return json.dumps({"error": error_text(str(kind), str(message))}).encode()


def of_told(raw: bytes) -> Outcome:
    """The outcome that :func:`told` has written."""
    said = _parsed(raw)
    if not isinstance(said, Mapping):
        return Outcome(Unknown)
    error = said.get("error")
    return Outcome(said.get("value", Unknown)) if error is None else Outcome(error=str(error))


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return Unknown


# -- Python's


def of_call(call: Callable[[], Any]) -> Outcome:
    """The outcome of a dry run, whatever it raises."""
    try:
        return Outcome(_as_json(call()))
    except BaseException as error:  # of the task: it ends this run, whatever it is
        return of_error(error)


def _as_json(value: Any) -> Any:
    """A value as it comes out of JSON: tuples are arrays, and keys are texts."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except RecursionError:
        return Unheld("it is nested too deeply")
    except Exception as error:  # of json, or of a method of the value's own
        return Unheld(str(of_error(error).error))


def error_text(kind: str, message: str) -> str:
    """An error in words."""
    return f"{kind}: {message}" if message else kind


def of_error(error: BaseException) -> Outcome:
    """The outcome of a run that ended with this error."""
    try:
        text = str(error)
    except BaseException:  # its own method
        text = ""
    return Outcome(error=error_text(type(error).__name__, text))
