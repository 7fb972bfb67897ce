"""The effect that writes the end of a tracked job in the step that settles it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge.results.record import DEAD, DONE, QUEUED, RETRY
from bridge.results.store import DEFAULT_TTL_SECONDS, Value, head, paired
from bridge.sidekiq import keys
from bridge.sidekiq.outcome import notice, poison_pill
from bridge.sidekiq.outcome.decision import Bury, Decision, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.tracked import FIELD, NOTHING, Tracked
from bridge.sidekiq.store.effects import Effect

#: Field of a payload with the jobs that follow (see ``following``).
NEXT_FIELD = "bridge_next"
#: Class of the error of a job that was too old to run.
EXPIRED_CLASS = "Bridge::Expired"


class EndOfJob:
    """The effect of a settlement on the result hash. ``tracked`` is for ``of_any`` alone."""

    def __init__(
        self,
        ttl_seconds: Callable[[], int] = lambda: DEFAULT_TTL_SECONDS,
        tracked: Callable[[], Tracked] = lambda: NOTHING,
    ) -> None:
        self._ttl = ttl_seconds
        self._tracked = tracked

    def effect(
        self,
        job: SidekiqJob,
        decision: Decision,
        run: str,
        known: Mapping[str, Value],
        *,
        only_known: bool = False,
    ) -> Effect:
        """``run`` is the name of the delivery; ``only_known``: write only where there is a hash."""
        status, fields = told(job, decision)
        orphaned = isinstance(decision, GiveBack) and decision.unknown_outcome
        fields = {**known, "class": job.native_class or "", **fields}
        is_ignored = isinstance(decision, Done) and decision.ignored
        if status == DONE and not is_ignored and (following := job.fields.get(NEXT_FIELD)) is not None:
            fields["children"] = _children(following)
        args = (
            *head(status, self._ttl(), run),
            "1" if only_known else "",
            QUEUED if orphaned else "",
            *paired(fields),
        )
        return Effect("result_settled", (keys.result(str(job.jid)), keys.RESULTS), args)

    def of_any(self, job: SidekiqJob, decision: Decision, identity: str, token: int) -> tuple[Effect, ...]:
        """As a source of effects for a process that moves waiting jobs, and runs none."""
        if job not in self._tracked():
            return ()
        run = f"{identity}/{token}" if identity else ""
        return (self.effect(job, decision, run, {}, only_known=job.fields.get(FIELD) is not True),)


def told(job: SidekiqJob, decision: Decision) -> tuple[str, dict[str, Value]]:
    """The status that a decision leads to, and the fields that say why."""
    match decision:
        case Done(expired=True):
            return DEAD, {**_error(EXPIRED_CLASS, "the job was not run: it had expired"), **_ended()}
        case Done(result=result):
            return DONE, _done(result)
        case Retry(at=at, payload=payload):
            return RETRY, {**_error(*_error_in(payload)), "retry_at": at}
        case Bury(payload=payload, notice=told_to_ruby):
            known = _error_in(payload)
            if not known[0]:
                why = told_to_ruby or notice.KILLED
                known = why.error_class, why.message
            return DEAD, {**_error(*known), **_ended()}
        case Discard(notice=told_to_ruby, error=error):
            why = told_to_ruby or notice.REVOKED
            return DEAD, {**_error(*(error or (why.error_class, why.message))), **_ended()}
        case GiveBack(unknown_outcome=True):
            # The script decides: buried with these fields, or given back without them.
            return DEAD, {**_error(poison_pill.ERROR_CLASS, poison_pill.REASON), **_ended()}
        case GiveBack() | Interrupt():
            return QUEUED, {}


def _children(following: Any) -> str:
    """The jids of the jobs that follow at once, as Celery's ``AsyncResult.children`` has them."""
    try:
        steps = [*(following.get("link") or []), *(following.get("chain") or [])[:1]]
        return json.dumps([str(each["jid"]) for step in steps for each in step.get("many", [step])])
    except (AttributeError, KeyError, TypeError):  # any client may write the field
        return "[]"


def _done(result: Any) -> dict[str, Value]:
    fields = dict.fromkeys(("error_class", "error_message", "retry_at", "lost", "result"), "")
    if result is None:
        return {**fields, **_ended(), "result": b"null"}
    return {**fields, **_ended(), "result": result.json, "lost": result.lost}


def _ended() -> dict[str, Value]:
    return {"finished_at": time.time()}


def _error(kind: str, message: str) -> dict[str, Value]:
    return {"error_class": kind, "error_message": message, "result": "", "lost": ""}


def _error_in(payload: bytes) -> tuple[str, str]:
    """Class and message, as the rules have written them into the payload that goes on."""
    try:
        fields = json.loads(payload)
        return str(fields.get("error_class") or ""), str(fields.get("error_message") or "")
    except (ValueError, AttributeError, RecursionError):
        return "", ""
