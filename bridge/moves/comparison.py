"""The outcomes of a Ruby run and of its shadow, and what differs between them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bridge.sidekiq.outcome.decision import Decision, Done


class Unknown:
    """Stands for a return value that was not reported."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: a return value as JSON has it, or an error in words."""

    value: Any = None
    error: str | None = None

    @property
    def text(self) -> str:
        """The outcome in words."""
        if self.error is not None:
            return self.error
        return "done" if self.value is Unknown else json.dumps(self.value, ensure_ascii=False, sort_keys=True)


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


def of_decision(decision: Decision) -> Outcome:
    """The outcome of a Ruby run, from what its settlement says."""
    if isinstance(decision, Done):
        result = decision.result
        return Outcome(Unknown if result is None or not result.json else _parsed(result.json))
    fields = _parsed(getattr(decision, "payload", b""))
    if not isinstance(fields, dict):
        return Outcome(error="failed")
    kind, message = fields.get("error_class") or "failed", fields.get("error_message") or ""
    return Outcome(error=error_text(str(kind), str(message)))


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return Unknown


def as_json(value: Any) -> Any:
    """A value as it comes out of JSON: tuples are arrays, and keys are texts. Raises for all else."""
    return json.loads(json.dumps(value))


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
