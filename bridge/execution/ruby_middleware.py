"""Runs a native task's code inside the app's server middleware (``@app.task(ruby_middleware=True)``).

The job goes to the sidecar as a Ruby job does. This thread runs the code at the place of the Ruby instance's
``perform``, and reports its end. The middleware unwinds, and Ruby decides about a failure as about any Ruby
job.
"""

from __future__ import annotations

import time
from typing import Any

from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry, WorkerShutdown, WorkerTerminate

from bridge.broker.messages import DELIVERY_HEADER
from bridge.execution import async_exceptions, claimed_job, coroutine_run, hand_over, retries, returned
from bridge.execution.outcomes import ASKED_ATTRIBUTE, Ending, JobCancelled, RubyError, Wish
from bridge.sidecar.python_code import CodeEnding, PythonCodeClient
from bridge.sidecar.result import JobResult, Status
from bridge.sidecar.stream_client import plain
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome import failure
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.payload import backtrace
from bridge.sidekiq.payload.job import SidekiqJob

#: Name under which the request of a running task holds its run.
RUN = "sidekiq_ruby_run"
#: A task that ends so is given back, whatever Ruby would say.
_RELEASED = (Reject, WorkerShutdown, WorkerTerminate)
MOST_FRAMES = 100


def is_wanted(task: Any) -> bool:
    """Whether the task's attribute or ``BRIDGE_RUBY_MIDDLEWARE`` asks for it."""
    return bool(task.ruby_middleware) or is_named(task)


def is_named(task: Any) -> bool:
    """Whether ``BRIDGE_RUBY_MIDDLEWARE`` names the task."""
    runtime = getattr(task.app, "bridge", None)  # another Celery application has none
    return runtime is not None and task.name in runtime.settings.ruby_middleware


def decided(request: Any, wish: Wish) -> Decision | None:
    """What Ruby has decided about the task that runs with this request; None for any other task.

    The delay of the ``wish`` replaces Sidekiq's curve, unless the code named one.
    """
    run = getattr(request, RUN, None)
    return run.decide(wish) if isinstance(run, Run) else None


class Run:
    """One run of such a task."""

    def __init__(self, task: Any, delivery: Delivery) -> None:
        self._task, self._delivery = task, delivery
        self._app = task.app
        self._error: BaseException | None = None
        self._wish: Wish | None = None
        self._result: JobResult | None = None
        self._value: Any = None

    def __call__(self) -> Any:
        """Run it to the end that Ruby names. Returns what the code of a tracked job has returned."""
        setattr(self._task.request, RUN, self)
        runtime = self._app.bridge
        client = PythonCodeClient(plain(runtime.sidecar), self._perform, runtime.settings.lease_seconds)
        result = hand_over.hand_over(self._app, self._delivery, client.execute)
        if result.status is Status.FAILED and not result.was_cancelled:
            raise self._failure(result)
        if isinstance(self._error, (Ignore, *_RELEASED)) and not isinstance(self._error, JobCancelled):
            raise self._error
        hand_over.conclude(result)
        return returned.done(self._task, self._delivery, self._value) if self._delivery.tracked else None

    # -- the code, in the middle of the middleware

    def _perform(self, payload: bytes) -> CodeEnding:
        claimed_job.require_lease(self._app, self._delivery)
        self._error = self._wish = None
        request, own = self._task.request, self._delivery
        args, kwargs = SidekiqJob.parse(payload).native_arguments()
        setattr(request, DELIVERY_HEADER, own._replace(payload=payload))
        request.args, request.kwargs = args, kwargs
        try:
            value = async_exceptions.call(self._task.code, own.token, args, kwargs)
            self._value = coroutine_run.finish(self._task, value, own.token)
        except BaseException as error:
            self._error = error
        finally:
            setattr(request, DELIVERY_HEADER, own)
        self._heed_retry(request)
        return self._ending(self._error)

    def _heed_retry(self, request: Any) -> None:
        """``self.retry()`` is a failure, also where the code does not raise what it returns."""
        asked: Ending | None = getattr(request, ASKED_ATTRIBUTE, None)
        setattr(request, ASKED_ATTRIBUTE, None)
        if asked is not None:
            self._wish = asked.wish
            if self._error is None or isinstance(self._error, Retry) or self._error is asked.error:
                self._error = _or_asked(asked.cause)
        elif isinstance(self._error, Retry):  # made by the task itself
            self._wish = retries.of_retry(self._task, self._error)
            self._error = _or_asked(self._error.exc)

    def _ending(self, error: BaseException | None) -> CodeEnding:
        if isinstance(error, JobCancelled):
            return CodeEnding("cancelled", message="cancelled by revoke")
        if isinstance(error, _RELEASED):
            return CodeEnding("released", message=repr(error))
        if error is None or isinstance(error, Ignore):
            return CodeEnding("done")
        wish = self._wish or retries.of_task(self._task, error)
        frames = tuple(backtrace.python_lines(error)[:MOST_FRAMES])
        text = failure.message(error)[: failure.MESSAGE_CHARS]
        return CodeEnding("failed", failure.class_name(error), text, frames, wish.limit)

    # -- the end

    def _failure(self, result: JobResult) -> BaseException:
        """The task's own error where it is what failed in Ruby, for signals, logs and Flower to show."""
        self._result = result
        error = self._error
        if error is None or failure.class_name(error) != result.error_class:
            return _caused(RubyError(result), error)
        return error

    def decide(self, wish: Wish) -> Decision | None:
        """What Ruby decided; None before its end. The code's own wish counts more than this one."""
        if self._result is None or self._result.next is None:
            return None
        wish = self._wish or wish
        job = claimed_job.job_of(self._app, self._delivery)
        return retries.with_fields(self._result.next.decision(job, time.time(), wish.delay), wish)


def _or_asked(error: BaseException | None) -> BaseException:
    return MaxRetriesExceededError("retried by the task itself") if error is None else error


def _caused(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error
