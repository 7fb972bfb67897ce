"""Which values of a task's attributes lose, double or stop jobs, or have no meaning for a Sidekiq job.

Each rule says what is wrong and what to write instead. The attributes are those of Celery's ``Task`` (see
``celery/app/task.py`` and the page "Tasks" of its guide), whatever path they came by.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

from celery.backends.base import DisabledBackend
from celery.utils.imports import symbol_by_name
from celery.utils.time import rate

from bridge.broker.messages import RUBY_TASK
from bridge.broker.push_policy import PERSISTENT, READABLE
from bridge.execution import retry_rules, ruby_middleware
from bridge.execution.request import SidekiqRequest
from bridge.results.backend import ResultBackend
from bridge.sidekiq.payload import options as sidekiq_options

#: How Ruby writes the name of a class.
_CONSTANT_PATH = re.compile(r"[A-Z]\w*(?:::[A-Z]\w*)*", re.ASCII)
Rule = Callable[[Any, Any], str | None]
"""Takes a task and the attribute's value. Returns what is wrong with it, or None."""

_RESULTS = "results are in Sidekiq's Redis. Remove it, and write @app.task(track=True)"
_SETTLED_LATE = "a job is settled after its run, and a crash loses none. Remove it"
_RECOVERED = (
    "the bridge itself gives back the job of a process that died, and buries it the third time. Remove it"
)


def _must(wanted: bool, sentence: str) -> Rule:
    return lambda _, value: sentence if value is not None and bool(value) is not wanted else None


def _unset(sentence: str) -> Rule:
    return lambda _, value: sentence if value is not None else None


def _among(accepted: tuple[Any, ...], sentence: str) -> Rule:
    return lambda _, value: None if value is None or value in accepted else sentence


def _backend(_: Any, value: Any) -> str | None:
    return None if value is None or isinstance(value, DisabledBackend | ResultBackend) else _RESULTS


def _flag(_: Any, value: Any) -> str | None:
    return None if value is None or isinstance(value, bool) else "write True or False"


def _rate_limit(task: Any, value: Any) -> str | None:
    if not value:
        return None
    try:
        is_rate = math.isfinite(limit := rate(value)) and limit >= 0
    except (ValueError, TypeError, AttributeError, KeyError):
        is_rate = False
    if not is_rate:
        return 'this is not a rate. Write "10/s", "100/m" or "1000/h"'
    if task.name != RUBY_TASK or task.app.conf.worker_disable_rate_limits:
        return None
    return (
        "one limit would hold the jobs of all Ruby classes. Limit native tasks by their names, "
        '@app.task(name="ReportJob", rate_limit="10/s"), and a Ruby class in Ruby'
    )


def _sidekiq_options(task: Any, value: Any) -> str | None:
    return sidekiq_options.objection(value, through_ruby=task.app.bridge.settings.ruby_client)


def _throws(_: Any, value: Any) -> str | None:
    classes = value if isinstance(value, tuple) else (value,)
    if all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
        return None
    return "write a tuple of exception classes"


def _count(_: Any, value: Any) -> str | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if value is None or is_count else "write a number of retries, or None"


def _request(_: Any, value: Any) -> str | None:
    try:
        found = symbol_by_name(value)
    except (ImportError, AttributeError, ValueError):
        return "no such class can be imported. Correct the name"
    if isinstance(found, type) and issubclass(found, SidekiqRequest):
        return None
    return (
        "it settles no job, which then runs without end. "
        "Derive it from bridge.execution.request.SidekiqRequest, and call super() in each method"
    )


def _strategy(task: Any, value: Any) -> str | None:
    try:
        inspect.signature(symbol_by_name(value)).bind(task, task.app, None)
    except (ImportError, AttributeError):
        return "no such function can be imported. Correct the name"
    except (TypeError, ValueError):
        return "Celery calls it with task, app and consumer. Write its name, Strategy='mytasks:strategy'"
    return None


def _ruby_middleware(task: Any, value: Any) -> str | None:
    wanted = bool(value) or ruby_middleware.is_named(task)
    if wanted and _CONSTANT_PATH.fullmatch(task.name) is None:
        return (
            "Ruby's middleware needs a class, and this is not the name of one. "
            'Name the task like a class: @app.task(name="ReportJob", ruby_middleware=True)'
        )
    if wanted is task.in_ruby_middleware:
        return None
    return "a running worker does not change it. Write @app.task(ruby_middleware=True), and start it again"


RULES: dict[str, Rule] = {
    "acks_late": _must(True, _SETTLED_LATE),
    "acks_on_failure": _must(True, "a failed job would run again at once instead of in retry. Remove it"),
    "acks_on_timeout": _must(True, "a job beyond its time limit would run again without end. Remove it"),
    "acks_on_failure_or_timeout": _must(True, "a failed job would run again without end. Remove it"),
    "reject_on_worker_lost": _must(False, _RECOVERED),
    "retry_on_worker_lost": _must(False, _RECOVERED),
    "rate_limit": _rate_limit,
    "Request": _request,
    "ruby_middleware": _ruby_middleware,
    "Strategy": _strategy,
    "track": _flag,
    "store_errors_even_if_ignored": _must(False, "the errors of a tracked job are stored. Write track=True"),
    "store_eager_result": _must(False, "the caller of an eager run has its result. Remove it"),
    "backend": _backend,
    "priority": _unset("a Sidekiq queue has no priorities. Use a queue of its own and the order of -Q"),
    "expires": _unset("Sidekiq names it otherwise. Write sidekiq_options={'expires_in': 60}"),
    "sidekiq_options": _sidekiq_options,
    "max_retries": _count,
    "autoretry_for": retry_rules.errors,
    "dont_autoretry_for": retry_rules.errors,
    "default_retry_delay": retry_rules.seconds,
    "retry_backoff": retry_rules.backoff,
    "retry_backoff_max": retry_rules.seconds,
    "retry_kwargs": retry_rules.kwargs,
    "throws": _throws,
    "serializer": _among(READABLE, 'Ruby reads JSON only. Remove it, or write serializer="json"'),
    "compression": _unset("Ruby reads no compressed job. Remove it"),
    "delivery_mode": _among(PERSISTENT, "Redis keeps every job. Remove it"),
    "mandatory": _must(False, "Redis knows no such option. Remove it"),
    "immediate": _must(False, "Redis knows no such option. Remove it"),
}
"""Attribute to rule."""


def objection(task: Any, attribute: str, value: Any) -> str | None:
    """Return the sentence that refuses this value of a task's attribute; None if the value is right."""
    rule = RULES.get(attribute)
    return None if rule is None else rule(task, value)
