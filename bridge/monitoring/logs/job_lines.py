"""One line when a job's run begins and one when it ends, as Sidekiq's JobLogger writes them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import (
    Bury,
    Decision,
    Discard,
    Done,
    GiveBack,
    Interrupt,
    Postpone,
    Retry,
)
from bridge.sidekiq.payload import trace_context
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.redact import scrub
from bridge.sidekiq.store.settlement import Settled

logger = logging.getLogger("bridge.job")

#: Texts from payloads (names, messages of errors) are cut to this, so that a line stays a line.
LONGEST_VALUE = 200

_WORDS: dict[type[Decision], str] = {
    Done: "done",
    Retry: "retry",
    Bury: "fail",
    Discard: "fail",
    Interrupt: "interrupted",
    Postpone: "postponed",
    GiveBack: "given back",
}


def _pushed_in(job: SidekiqJob) -> str | None:
    return trace_context.trace_id(job.fields)


_trace_of: Callable[[SidekiqJob], str | None] | None = None


def attach_trace(trace_of: Callable[[SidekiqJob], str | None]) -> None:
    """This worker makes spans of its own: ``trace_of`` names the trace of a job."""
    global _trace_of
    _trace_of = trace_of


class JobLog:
    """Writes the lines at INFO; below that level each call costs one look into a dictionary."""

    def started(self, unit: UnitOfWork) -> None:
        """``start``."""
        if logger.isEnabledFor(logging.INFO):
            unit.log_context.update(_identity(unit))
            _log("start", unit.log_context)

    def settled(self, unit: UnitOfWork, decision: Decision, outcome: Settled) -> None:
        """``done``, ``retry``, ``fail``, ``interrupted`` or ``given back``, for a job that has run.

        A settlement that was fenced has a warning of its own.
        """
        if unit.started_at is None or outcome is not Settled.OK or not logger.isEnabledFor(logging.INFO):
            return
        ran = "python" if unit.native else "ruby"
        context = {
            **(unit.log_context or _identity(unit)),
            "ran": ran,
            "elapsed": round(unit.run_seconds or 0.0, 3),
            **_error(decision),
        }
        _log(_WORDS[type(decision)], context)


def _log(message: str, context: Mapping[str, Any]) -> None:
    # Not logger.info(): it would look for the line of code that called it, which costs as much as all the
    # rest.
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 0, message, (), None)
    record.ctx = context
    logger.handle(record)


def _identity(unit: UnitOfWork) -> dict[str, Any]:
    """As Sidekiq names a job. Not ``display_class`` as the Web UI makes it up, which may be an argument."""
    job = unit.job
    shown = job.fields.get("display_class")
    name = shown if isinstance(shown, str) else job.native_class
    found = {"jid": _cut(job.jid), "class": _cut(name), "queue": unit.delivery.queue}
    fields = job.fields
    has_ids = not trace_context.ID_FIELDS.isdisjoint(fields)  # most jobs have none
    if has_ids and (correlation := trace_context.correlation_id(fields)) is not None:
        found["correlation_id"] = _cut(correlation)
    trace_of = _trace_of or (_pushed_in if has_ids else None)
    if trace_of is not None and (trace := trace_of(job)) is not None:
        found["trace_id"] = trace
    return found


def _error(decision: Decision) -> dict[str, Any]:
    """Class and message of the error that the payload carries from now on."""
    if not isinstance(decision, Retry | Bury):
        return {}
    try:
        fields = json.loads(decision.payload)
    except (ValueError, RecursionError):
        return {}  # malformed bytes, buried as they are
    if not isinstance(fields, dict):
        return {}
    found = {name: str(fields[name] or "") for name in ("error_class", "error_message") if name in fields}
    if "error_message" in found:
        found["error_message"] = scrub(found["error_message"], fields.get("args"))
    return {name: _cut(value) for name, value in found.items()}


def _cut(value: object) -> str:
    text = str(value or "")[:LONGEST_VALUE]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
