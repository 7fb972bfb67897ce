"""A task's wishes for its retries, from Celery's options and ``self.retry``, and the decision by them."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from celery.utils.time import get_exponential_backoff_interval

from bridge.broker import json_values, push_policy
from bridge.errors import PushRefused
from bridge.execution import moments, outcomes, retry_rules, time_limits
from bridge.execution.outcomes import Ending, RubyError, Wish
from bridge.sidekiq.outcome import retry
from bridge.sidekiq.outcome.decision import Decision, Done, Retry
from bridge.sidekiq.outcome.failure import Failure
from bridge.sidekiq.outcome.retry import RetryRules
from bridge.sidekiq.payload import queue_names
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.splice import splice

_RNG = random.SystemRandom()

#: 2 to this power is more seconds than any maximum; a payload may claim a billion retries.
_MOST_DOUBLINGS = 40
#: Options of ``self.retry`` that change nothing about a Sidekiq job.
_WITHOUT_EFFECT = frozenset(["serializer", "ignore_result", "shadow", "delivery_mode"])


def asked(
    task: Any,
    job: SidekiqJob,
    args: Any,
    kwargs: Any,
    eta: datetime | None,
    countdown: float | None,
    max_retries: int | None,
    options: Mapping[str, Any],
) -> Wish:
    """What ``self.retry`` asks for. Raises PushRefused for what a Sidekiq job has no place for."""
    _check_numbers(task, countdown, max_retries)
    delay = _until(task, eta) if eta is not None else countdown
    if delay is None:
        delay = task.default_retry_delay
    if delay is None:
        delay = _backoff(task)
    limit = task.max_retries if max_retries is None else max_retries
    if args is not None and job.is_active_job:
        raise PushRefused(f"{task.name}: self.retry(args=...) cannot change the arguments of an ActiveJob.")
    return Wish(delay, _number(limit), _fields(task, args, kwargs, options))


def of_retry(task: Any, error: Any) -> Wish:
    """The wish in a ``celery.exceptions.Retry`` that the task raised itself, without ``self.retry``."""
    when = error.when
    delay = _until(task, when) if isinstance(when, datetime) else when
    return Wish(task.default_retry_delay if delay is None else float(delay), _number(task.max_retries))


def of_task(task: Any, error: BaseException, again: Ending | None = None) -> Wish:
    """The wish of a task's options for an error that ended its code.

    ``again``: the retry that the code asked for before. It holds, with the later error's class and message.
    """
    if type(error) is RubyError:
        return Wish(_backoff(task))
    if again is not None and isinstance(again.decision, Retry):
        return again.wish._replace(delay=max(0.0, again.decision.at - time.time()))
    if not is_retried(task, error):
        return Wish(limit=0)
    own = task.retry_kwargs
    delay = _backoff(task)
    if delay is None and own.get("eta") is not None:
        delay = _until(task, own["eta"])
    if delay is None:
        delay = own.get("countdown", task.default_retry_delay)
    limit = own.get("max_retries")
    return Wish(delay, _number(task.max_retries if limit is None else limit))


def is_retried(task: Any, error: BaseException) -> bool:
    """Whether ``autoretry_for`` and ``dont_autoretry_for`` have this error retried."""
    kind = type(error)
    return issubclass(kind, tuple(task.autoretry_for)) and not issubclass(
        kind, tuple(task.dont_autoretry_for)
    )


def _until(task: Any, eta: Any) -> float:
    return moments.aware(eta, task.app).timestamp() - time.time()


def _backoff(task: Any) -> float | None:
    """Seconds of Celery's exponential backoff; None where neither the task nor the settings ask for it."""
    factor = getattr(task, "retry_backoff", None)
    if not factor:
        return None
    return float(
        get_exponential_backoff_interval(
            factor=int(max(1.0, float(factor))),
            retries=min(task.request.retries or 0, _MOST_DOUBLINGS),
            maximum=int(getattr(task, "retry_backoff_max", 600)),
            full_jitter=bool(getattr(task, "retry_jitter", True)),
        )
    )


def _number(limit: Any) -> int | None:
    return None if limit is None or isinstance(limit, bool) else int(limit)


def error_of(exc: Any) -> BaseException | None:
    """``exc`` of ``self.retry``, which Celery takes as an error, its class, or a text."""
    if exc is None or issubclass(type(exc), BaseException):
        return cast(BaseException | None, exc)
    return exc() if isinstance(exc, type) and issubclass(exc, BaseException) else Exception(str(exc))


def _check_numbers(task: Any, countdown: Any, max_retries: Any) -> None:
    """Raise PushRefused for what would become another delay or limit than the caller wrote."""
    if countdown is not None and not retry_rules.is_finite(countdown):
        raise PushRefused(f"{task.name}: self.retry(countdown={countdown!r}): write seconds.")
    try:
        _number(max_retries)
    except (ValueError, OverflowError, TypeError):
        raise PushRefused(
            f"{task.name}: self.retry(max_retries={max_retries!r}): write a whole number, or None."
        ) from None


def _fields(task: Any, args: Any, kwargs: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in options.items() if value is not None}
    push_policy.check(task.name, kwargs, options)
    fields: dict[str, Any] = time_limits.of_push(task.name, options)
    if args is not None:
        if not isinstance(args, list | tuple):
            raise PushRefused(f"{task.name}: self.retry(args={args!r}): write a list or a tuple.")
        json_values.check_args(args)
        fields["args"] = list(args)
    if "queue" in options:
        queue = getattr(options["queue"], "name", options["queue"])  # as a push takes kombu's Queue
        if (wrong := queue_names.objection(queue)) is not None:
            raise PushRefused(f"{task.name}: self.retry(queue=...): {wrong}.")
        fields["queue"] = queue
    for name in options.keys() - fields.keys() - _WITHOUT_EFFECT:
        raise PushRefused(f"{task.name}: self.retry({name}=...) has no place in a Sidekiq job. Leave it out.")
    return fields


def done(task: Any, token: int, result: Any) -> Any:
    """Record that the code has returned. An error about its result (a broken ``__repr__``) does not count."""
    task.app.bridge.fetcher.in_flight.decide(token, Done())
    return result


def marked(error: BaseException, carried: outcomes.Carried) -> BaseException:
    """The error, or one in its place, with the decision that it carries."""
    try:
        setattr(error, outcomes.DECISION_ATTRIBUTE, carried)
    except BaseException:
        error = outcomes.stand_in(error)
        setattr(error, outcomes.DECISION_ATTRIBUTE, carried)
    return error


def decide(
    task: Any,
    rules: RetryRules | None,
    job: SidekiqJob,
    queue: str,
    failure: Failure,
    wish: Wish,
) -> Decision:
    """Decide about a native job that failed, by Sidekiq's rules and what the task says."""
    options: Mapping[str, Any] = getattr(task, "push_options", dict)()
    decision = retry.decide(
        job,
        failure,
        queue=queue,
        rules=rules or RetryRules(),
        now=time.time(),
        rng=_RNG,
        class_retry=options.get("retry", True),
        limit=wish.limit,
        delay=(lambda count: wish.delay) if wish.delay is not None else None,
        delay_is_final=True,
    )
    return with_fields(decision, wish)


def with_fields(decision: Decision, wish: Wish) -> Decision:
    """The decision, with the fields that the task wants in the payload of its retry."""
    if wish.fields and isinstance(decision, Retry):
        return replace(decision, payload=splice(decision.payload, wish.fields))
    return decision
