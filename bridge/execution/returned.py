"""Results of tracked jobs, on their way from the code that returned them to the settlement.

Within the worker's own process a result is recorded with the decision. A pool process sends it to the parent:
Celery's tracer hands on the text of a result only, and the JSON travels with that text.
"""

from __future__ import annotations

from typing import Any

from bridge.results.encoding import encoded, value_of
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome.decision import Done, Result

_kept: dict[int, Result] = {}


class Returned(str):
    """The text that the tracer hands on about a run, with the result of a tracked job."""

    result: Result

    def __reduce__(self) -> Any:
        return _made, (str(self), self.result)


def _made(text: str, result: Result) -> Returned:
    made = Returned(text)
    made.result = result
    return made


def done(task: Any, delivery: Delivery, value: Any) -> Any:
    """The code of a tracked job has returned this value. Returns it."""
    record(task.app.bridge, delivery, encoded(value, task.request.id))
    return value


def record(runtime: Any, delivery: Delivery, result: Result) -> None:
    """A tracked job is done, with this result."""
    if runtime.pool_has_processes:
        _kept[delivery.token] = result  # the tracer asks for it at once
    else:
        runtime.fetcher.in_flight.decide(delivery.token, Done(result))


def reported(runtime: Any, delivery: Delivery, result: Result) -> Any:
    """Ruby has said what a job returned. Returns the value of a tracked job, for Celery's signals."""
    record(runtime, delivery, result)
    return value_of(result) if result.json and delivery.tracked else None


def has_any() -> bool:
    """Whether a result waits in this process for its tracer."""
    return bool(_kept)


def with_result(text: Any, token: int) -> Any:
    """The text of a run, with its result if one was kept."""
    result = _kept.pop(token, None)
    return text if result is None else _made(text if isinstance(text, str) else "", result)
