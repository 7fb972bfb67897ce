"""Celery's result backend over the result hashes: ``AsyncResult``, ``celery result``, ``update_state``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import TimeoutError as ResultTimeout

from bridge import errors
from bridge.results.raising import error_of
from bridge.results.record import DEAD, DONE, QUEUED, RETRY, RUNNING, Record
from bridge.results.results import Results, state_fields

_STATES = {RETRY: states.RETRY, DONE: states.SUCCESS}


class ResultBackend(BaseBackend):
    """Reads what settlements have written. The writes of Celery's tracer do nothing: they come too soon."""

    app: Any
    supports_autoexpire = True
    """Beat would push ``celery.backend_cleanup`` each night, to Ruby."""

    def __init__(self, app: Any, results: Callable[[], Results]) -> None:
        super().__init__(app)
        self._results = results

    def wait_for_pending(  # type: ignore[override]  # the stubs are narrower than Celery
        self,
        result: Any,
        timeout: float | None = None,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        propagate: bool = True,
        callback: Any = None,
        **_: Any,
    ) -> Any:
        """Wait for the end of a job. ``on_message`` is told of each change, as by Celery's Redis backend."""

        def changed(record: Record) -> None:
            if on_message is not None:
                on_message(self._meta(record))

        record = self._results().wait(result.id, timeout, changed)
        if record is None:
            raise ResultTimeout("The operation timed out.")
        changed(record)
        result._maybe_set_cache(self._meta(record))
        if record.lost:
            raise lost(record)
        return result.maybe_throw(propagate=propagate, callback=callback)

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """State and result of a job, as Celery keeps them."""
        return self._get_task_meta_for(task_id)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        record = self._results().read(task_id)
        if record is None:  # it waits, and nothing was written about it yet
            return {"status": states.PENDING, "result": None, "task_id": task_id}
        return self._meta(record)

    def task_result_exists(self, task_id: str) -> bool:
        """Whether Redis has a result hash of this job."""
        return self._results().store.read(task_id) is not None

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        """For Celery's tracer, which names a request, nothing: a settlement writes the end of a job."""
        if request is None:
            record = self._results().read(task_id)
            status = QUEUED if record is None else record.status
            self._results().store.note(task_id, status, state_fields(state, result))
        return result

    def forget(self, task_id: str) -> None:
        """Remove the result."""
        self._results().store.forget(task_id)

    def meta_from_decoded(self, meta: dict[str, Any]) -> dict[str, Any]:
        """As it is: ``result`` of a failed job is an exception already."""
        return meta

    def _meta(self, record: Record) -> dict[str, Any]:
        return {
            "status": _state(record),
            "result": _value(record),
            "traceback": None,
            "children": [self.app.AsyncResult(jid) for jid in record.child_jids],
            "task_id": record.jid,
            "name": record.job_class or None,
            "date_done": _moment(record.finished_at),
        }


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _state(record: Record) -> str:
    if record.status in (RUNNING, QUEUED):
        if record.state:
            return record.state
        if record.status == QUEUED:
            return str(states.PENDING)
        has_progress = record.at is not None or record.total is not None or record.message
        return "PROGRESS" if has_progress else str(states.STARTED)
    if record.status == DEAD:
        return str(states.REVOKED if record.was_revoked else states.FAILURE)
    return str(_STATES.get(record.status, states.PENDING))


def _value(record: Record) -> Any:
    if record.status == RUNNING:
        return record.progress
    if record.status in (DEAD, RETRY):
        return error_of(record)
    return lost(record) if record.lost else record.value


def lost(record: Record) -> errors.ResultLost:
    """The error about a result that was not stored."""
    return errors.ResultLost(
        f"jid={record.jid}: the job is done, but its result is not stored: {record.lost}"
    )
