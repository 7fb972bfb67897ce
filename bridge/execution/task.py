"""Ends a run that fails, by the job's own policy, the options of its task, and Sidekiq's rules.

A run ends in a decision. It is recorded on the delivery at once, where the worker's parent runs the task.
Celery's machinery carries it as well, from a pool process to the parent: inside a ``RetryAt`` for a retry, on
the exception itself where the job is out of retries. Nothing is published.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn, cast

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry, WorkerShutdown, WorkerTerminate

from bridge.broker.messages import DELIVERY_HEADER, RAISED_HEADER, RUBY_TASK, RULES_HEADER
from bridge.errors import EX_SOFTWARE
from bridge.execution import (
    async_exceptions,
    coroutine_run,
    eager,
    failure_log,
    outcomes,
    retries,
    returned,
    ruby_middleware,
)
from bridge.execution.claimed_job import job_of, require_lease
from bridge.execution.followed import Followed
from bridge.execution.on_commit import OnCommit
from bridge.execution.outcomes import ASKED_ATTRIBUTE, NO_WISH, Ending, RetryAt, RubyError, Settle, Wish
from bridge.execution.progress import TellsProgress
from bridge.execution.shadow import Shadowed
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome import decision as decisions
from bridge.sidekiq.outcome.failure import Failure
from bridge.sidekiq.payload.job import SidekiqJob

#: Errors that end the worker, not the job.
_OF_THE_WORKER = (WorkerShutdown, WorkerTerminate)


class SidekiqTask(OnCommit, Shadowed, TellsProgress, Followed):
    """Base of every task of the application: retried, buried and pushed by Sidekiq's rules.

    ``sidekiq_options`` are what ``sidekiq_options`` are in Ruby: ``retry``, ``queue``, ``dead``,
    ``backtrace``, ``tags``, ``retry_for``, ``retry_queue``; they go into the payload when Python pushes the
    job. ``retry_backoff`` unset is Sidekiq's curve; True or a number is Celery's exponential backoff.
    """

    abstract = True
    Request = "bridge.execution.request:SidekiqRequest"
    acks_late = True
    ignore_result = None  # type: ignore[assignment]  # task_ignore_result, which is True
    max_retries: int | None = None
    default_retry_delay: float | None = None  # type: ignore[assignment]  # seconds; None: Sidekiq's curve
    sidekiq_options: Mapping[str, Any] = {}
    ruby_middleware: bool = False  # whether the code runs inside the app's server middleware
    code: Callable[..., Any]
    """The task's own code, without what Celery and the bridge put around it."""

    #: Celery's own, unset: Sidekiq's curve.
    retry_backoff: bool | float
    retry_backoff_max: int
    retry_jitter: bool
    retry_kwargs: Mapping[str, Any] = {}

    #: Everything, because a ``sys.exit()`` in a task must not cost its slot; but not what ends the worker or
    #: the message. An error that a task's own options leave out buries the job at once.
    autoretry_for: tuple[type[BaseException], ...] = (BaseException,)
    dont_autoretry_for: tuple[type[BaseException], ...] = (Reject, *_OF_THE_WORKER)
    #: Celery looks for it before it puts its own autoretry around a task: ``run`` is ours already.
    _orig_run = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. A running worker refuses a value that it would refuse at its start."""
        app = getattr(self, "_app", None)  # not ``app``, which binds the task
        policy = getattr(getattr(app, "bridge", None), "task_policy", None)
        if policy is not None:
            policy.judge_change(self, name, value)
        super().__setattr__(name, value)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A task whose ``run`` knows what becomes of an error. An ``__init__`` need not call ours."""
        task = super().__new__(cls)
        task.take_over()
        return task

    def take_over(self) -> None:
        """Put the decision about errors around ``run``."""
        code = self.code = self.run
        run = functools.wraps(code)(lambda *args, **kwargs: self._run(args, kwargs))
        self.run = run  # type: ignore[method-assign]

    def _run(self, args: Any, kwargs: Any) -> Any:
        """Call the task's own code, in a window for time limits and ``revoke``. Decides about its errors."""
        delivery = self.delivery
        if delivery is None:
            return eager.run(self, args, kwargs) if self.request.is_eager else self.as_function(args, kwargs)
        failed: BaseException
        try:
            raised: BaseException | None = getattr(self.request, RAISED_HEADER, None)
            if raised is not None:
                raise raised  # it was run already: this is the tracer's turn to see how it ended
            require_lease(self.app, delivery)
            # A Ruby job is ended in Ruby; under the own pool many of them share the consumer's thread.
            if self.name == RUBY_TASK:
                return self.code(*args, **kwargs)
            if self.in_ruby_middleware:
                return ruby_middleware.Run(self, delivery)()
            result = async_exceptions.call(self.code, delivery.token, args, kwargs)
            if result is not None:
                result = coroutine_run.finish(self, result, delivery.token)
        except BaseException as error:
            failed = error
        else:
            asked: Ending | None = getattr(self.request, ASKED_ATTRIBUTE, None)
            if asked is None or not asked.is_retry:
                if delivery.tracked:
                    return returned.done(self, delivery, result)
                return None if result is None else retries.done(self, delivery.token, result)
            failed = asked.error  # retry(throw=False), or the code has swallowed the Retry
        # Outside of the block above: an error that cannot be told of must not become the context of another.
        return self._conclude(delivery, failed)

    @functools.cached_property
    def in_ruby_middleware(self) -> bool:
        """Whether the code runs inside the app's server middleware. A running worker does not change it."""
        return ruby_middleware.is_wanted(self)

    def as_function(self, args: Any, kwargs: Any) -> Any:
        """Call the task's own code, for no delivery."""
        result = self.code(*args, **kwargs)
        return None if result is None else coroutine_run.finish(self, result, None)

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

        ``countdown`` (seconds) or ``eta`` replace the delay, ``args`` the arguments, ``queue`` the queue,
        ``time_limit`` and ``soft_time_limit`` the limits. The lower one of ``max_retries`` and the job's own
        limit counts. The job runs again even if the code swallows the ``Retry``, or wants none (``throw``).

        Raises:
            Retry: the job is to run again.
            MaxRetriesExceededError: it has no retry left; or ``exc``, where that was given.
            PushRefused: an option that a Sidekiq job has no place for.
        """
        delivery = self.delivery
        if delivery is None or self.request.called_directly or self.request.is_eager:
            given = {"args": args, "kwargs": kwargs, "exc": exc, "throw": throw, "eta": eta}
            given |= {"countdown": countdown, "max_retries": max_retries}
            return eager.retry(super().retry, self, given, options)
        job = job_of(self.app, delivery)
        wish = retries.asked(self, job, args, kwargs, eta, countdown, max_retries, options)
        ending = self._decide(delivery, job, retries.error_of(exc), wish)
        setattr(self.request, ASKED_ATTRIBUTE, ending)
        if throw or not ending.is_retry:
            raise ending.error
        return ending.error

    # -- what becomes of an error

    def _conclude(self, delivery: Delivery, error: BaseException) -> NoReturn:
        """Decide about a run that ended with this error, and raise what carries the decision."""
        if terminate_handler_fired():
            # This pool process was told to end: its parent settles the job.
            raise SystemExit(EX_SOFTWARE)
        ending = self.ending_of(delivery, job_of(self.app, delivery), error)
        if ending is None:
            raise error
        self.record(delivery, ending)
        if ending.cause is None or ending.cause is ending.error:
            raise ending.error
        raise ending.error from ending.cause

    def ending_of(self, delivery: Delivery, job: SidekiqJob, error: BaseException) -> Ending | None:
        """The end of a run that raised this error. None for an error that carries its own decision."""
        kind = type(error)  # not isinstance, which asks an error for its class
        asked: Ending | None = getattr(self.request, ASKED_ATTRIBUTE, None)
        if asked is not None and asked.error is error:
            return asked
        again = asked if asked is not None and asked.is_retry else None
        is_released = issubclass(kind, (Settle, *_OF_THE_WORKER))
        if again is not None and not is_released and issubclass(kind, (Ignore, Reject, Retry)):
            return again
        if is_released or issubclass(kind, (Ignore, Reject)):
            return None
        if issubclass(kind, Retry):  # made by the task itself, without self.retry
            return self._decide(delivery, job, cast(Retry, error).exc, retries.of_retry(self, error))
        wishes = kind is not RubyError or getattr(self, "retry_backoff", None)  # else Ruby alone decides
        return self._decide(delivery, job, error, retries.of_task(self, error, again) if wishes else NO_WISH)

    def _decide(self, delivery: Delivery, job: SidekiqJob, exc: BaseException | None, wish: Wish) -> Ending:
        app: Any = self.app
        if decided := self.in_ruby_middleware and ruby_middleware.decided(self.request, wish):
            decision = decided
        elif type(exc) is RubyError and exc.result.next is not None:
            decision = exc.result.next.decision(job, time.time(), wish.delay)
        else:
            error = exc if exc is not None else MaxRetriesExceededError("retried by the task itself")
            failure = Failure.of(error, job)
            rules = getattr(self.request, RULES_HEADER, None)
            decision = retries.decide(self, rules, job, delivery.queue, failure, wish)
        told = None if exc is None else outcomes.tellable(exc)
        is_pickled = not isinstance(decision, decisions.Retry) or app.bridge.pool_has_processes
        carried = None if told is None else outcomes.fit_to_travel(told, is_pickled=is_pickled)
        if isinstance(decision, decisions.Retry):
            retry = RetryAt(exc=carried, when=max(0.0, decision.at - time.time()), decision=decision)
            return Ending(retry, decision, told, wish, job, is_retry=True)
        final = MaxRetriesExceededError(f"{self.name} is out of retries") if carried is None else carried
        final = retries.marked(final, outcomes.Carried(delivery.token, decision))
        return Ending(final, decision, told, wish, job, is_retry=False)

    def record(self, delivery: Delivery, ending: Ending) -> None:
        """Record the decision on the delivery: whatever happens in Celery from now on, it holds. Log it."""
        app: Any = self.app
        app.bridge.fetcher.in_flight.decide(delivery.token, ending.decision)
        last, wanted = not ending.is_retry, app.bridge.settings.log_tracebacks
        failure_log.note(ending.job, delivery.queue, ending.cause, self.throws, last=last, wanted=wanted)
