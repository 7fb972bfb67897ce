"""Celery's autoretry, with the job's own policy and Sidekiq's sets.

A run ends in a decision. Celery's machinery carries it from the pool side, which decides, to the worker's
parent, which settles: inside a ``RetryAt`` for a retry, on the exception itself where the job is out of
retries. Nothing is published.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn, cast

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]
from celery import Task
from celery.exceptions import MaxRetriesExceededError, Reject, WorkerShutdown, WorkerTerminate

from bridge.broker.messages import DELIVERY_HEADER, RAISED_HEADER, RUBY_TASK, RULES_HEADER
from bridge.errors import EX_SOFTWARE
from bridge.execution import async_exceptions, coroutine_run, eager, failure_log, moments
from bridge.execution.on_commit import OnCommit
from bridge.execution.outcomes import DECISION_ATTRIBUTE, JobDied, RetryAt, RubyError, Settle, portable
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome import decision as decisions
from bridge.sidekiq.outcome import retry
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.outcome.failure import Failure
from bridge.sidekiq.payload.job import SidekiqJob

_RNG = random.SystemRandom()
#: Where Celery defines the tasks that every application has.
_BUILTINS = "celery.app.builtins"


def require_lease(app: Any, delivery: Delivery) -> None:
    """Begin no job that was taken from this worker while it was frozen; its settlement is fenced anyway."""
    if not app.bridge.lease.holds(delivery.identity):
        raise Settle(decisions.GiveBack())


def job_of(app: Any, delivery: Delivery) -> SidekiqJob:
    """The job of a delivery; where this process holds it, it has been parsed already."""
    unit = app.bridge.fetcher.in_flight.held.get(delivery.token)
    if unit is not None and unit.delivery.payload == delivery.payload:
        return cast(SidekiqJob, unit.job)
    return SidekiqJob.parse(delivery.payload)


def is_builtin(task: Any) -> bool:
    """Whether Celery itself defines this task."""
    return bool(task.__class__.__module__ == _BUILTINS)


class SidekiqTask(OnCommit, Task[Any, Any]):
    """Base of every task of the application: retried, buried and pushed by Sidekiq's rules.

    ``sidekiq_options`` are what ``sidekiq_options`` are in Ruby: ``retry``, ``queue``, ``dead``,
    ``backtrace``, ``tags``, ``retry_for``, ``retry_queue``; they go into the payload when Python pushes the
    job. ``retry_backoff`` unset is Sidekiq's curve; True or a number is Celery's exponential backoff.
    """

    abstract = True
    Request = "bridge.execution.request:SidekiqRequest"
    acks_late = True
    ignore_result = True
    max_retries: int | None = None
    sidekiq_options: Mapping[str, Any] = {}
    code: Callable[..., Any]
    """The task's own code, without what Celery and the bridge put around it."""

    #: Celery's own, unset: Sidekiq's curve.
    retry_backoff: bool | float
    retry_backoff_max: int
    retry_jitter: bool

    #: Everything, because a ``sys.exit()`` in a task must not cost its slot; but not what ends the worker or
    #: the message.
    autoretry_for = (BaseException,)
    dont_autoretry_for = (Reject, WorkerShutdown, WorkerTerminate)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. A running worker refuses a value that it would refuse at its start."""
        app = getattr(self, "_app", None)  # not ``app``, which binds the task
        policy = getattr(getattr(app, "bridge", None), "task_policy", None)
        if policy is not None:
            policy.judge_change(self, name, value)
        super().__setattr__(name, value)

    @property
    def _orig_run(self) -> Any:
        """What Celery's autoretry wraps: the task's own code, in a window for time limits and ``revoke``."""
        return self._windowed

    @_orig_run.setter
    def _orig_run(self, code: Any) -> None:
        self.code = code
        # A Ruby job is ended in Ruby; under the own pool many of them share the consumer's thread.
        finish = functools.partial(coroutine_run.finish, self)
        self._windowed = (
            code if self.name == RUBY_TASK else async_exceptions.window(code, self._token, finish)
        )

    def _token(self) -> int | None:
        raised: BaseException | None = getattr(self.request, RAISED_HEADER, None)
        if raised is not None:
            raise raised  # it was run already: this is the tracer's turn to see how it ended
        delivery = self.delivery
        if delivery is None:
            return None
        require_lease(self.app, delivery)
        return delivery.token

    @property
    def delivery(self) -> Delivery | None:
        """The delivery this task runs for; None when it was called as a function."""
        found = getattr(self.request, DELIVERY_HEADER, None)
        return found if isinstance(found, Delivery) else None

    @classmethod
    def use_backoff(cls, backoff: bool | float, most_seconds: int, *, jitter: bool) -> None:
        """Retry by Celery's exponential backoff, not by Sidekiq's curve, where a task does not say more."""
        cls.retry_backoff, cls.retry_backoff_max, cls.retry_jitter = backoff, most_seconds, jitter

    def push_options(self) -> dict[str, Any]:
        """Fields that this class puts into its payloads."""
        options = dict(self.sidekiq_options)
        if self.max_retries is not None:
            options.setdefault("retry", self.max_retries)
        return options

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """End this run as a failure; whether and when it runs again is the job's own policy.

        ``countdown`` (seconds) or ``eta`` replace the delay. ``args``, ``kwargs`` and ``max_retries`` are
        ignored: a retry is the same job, and its payload holds its limit.
        """
        delivery = self.delivery
        if delivery is None or self.request.called_directly or self.request.is_eager:
            given = {"args": args, "kwargs": kwargs, "exc": exc, "throw": throw, "eta": eta}
            given |= {"countdown": countdown, "max_retries": max_retries}
            implicit = self.autoretry_for is SidekiqTask.autoretry_for
            return eager.retry(super().retry, self, given, options, implicit=implicit)
        if terminate_handler_fired():
            # This pool process was told to end: the run was cut short, and its parent settles the job.
            raise SystemExit(EX_SOFTWARE) from exc
        delay = moments.aware(eta, self.app).timestamp() - time.time() if eta is not None else countdown
        decision = self._decide(delivery, exc, delay)
        self._log_failure(delivery, exc, decision)
        if not isinstance(decision, decisions.Retry):
            _raise_final(exc, decision, self.name)
        retry = RetryAt(exc=_portable(exc), when=max(0.0, decision.at - time.time()), decision=decision)
        if throw:
            raise retry from exc
        return retry

    def _log_failure(self, delivery: Delivery, exc: BaseException | None, decision: Decision) -> None:
        app: Any = self.app
        job, wanted = job_of(app, delivery), app.bridge.settings.log_tracebacks
        last = not isinstance(decision, decisions.Retry)
        failure_log.note(job, delivery.queue, exc, last=last, wanted=wanted)

    def _decide(self, delivery: Delivery, exc: BaseException | None, delay: float | None) -> Decision:
        job = job_of(self.app, delivery)
        if isinstance(exc, RubyError) and exc.result.next is not None:
            return exc.result.next.decision(job, time.time(), delay)
        error = exc if exc is not None else MaxRetriesExceededError("retried by the task itself")
        failure = Failure.of(error, job)
        rules = getattr(self.request, RULES_HEADER, None)
        return decide_native(self, rules, job, delivery.queue, failure, delay)


def decide_native(
    task: Any,
    rules: retry.RetryRules | None,
    job: SidekiqJob,
    queue: str,
    failure: Failure,
    delay: float | None = None,
) -> Decision:
    """Decide about a native job that failed, by Sidekiq's rules. ``delay`` (s) replaces the curve."""
    class_retry = task.push_options().get("retry", True) if isinstance(task, SidekiqTask) else True
    return retry.decide(
        job,
        failure,
        queue=queue,
        rules=rules or retry.RetryRules(),
        now=time.time(),
        rng=_RNG,
        class_retry=class_retry,
        delay=(lambda count: delay) if delay is not None else None,
        delay_is_final=True,
    )


def _raise_final(exc: BaseException | None, decision: Decision, name: str) -> NoReturn:
    """Out of retries: the task fails with its own exception, for signals, logs and Flower to show."""
    final = exc if isinstance(exc, Exception) and not isinstance(exc, MemoryError) else None
    if final is None:
        final = (
            JobDied(repr(exc)) if exc is not None else MaxRetriesExceededError(f"{name} is out of retries")
        )
    final = portable(final)
    try:
        setattr(final, DECISION_ATTRIBUTE, decision)
    except AttributeError:
        final = JobDied(repr(exc))
        setattr(final, DECISION_ATTRIBUTE, decision)
    raise final from exc


def _portable(exc: BaseException | None) -> BaseException | None:
    """An error that a Retry may carry: Celery pickles it, and takes a SystemExit for the end."""
    return (
        exc
        if exc is None or (isinstance(exc, Exception) and not isinstance(exc, MemoryError))
        else JobDied(repr(exc))
    )
