"""Judges a push, and gathers the fields of its payload."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping
from typing import Any

from bridge.broker import json_values, messages, push_policy, ruby_push
from bridge.errors import PushRefused
from bridge.execution.task import SidekiqTask
from bridge.execution.task_classes import is_builtin
from bridge.sidekiq.payload import options as sidekiq_options
from bridge.sidekiq.payload.tracked import FIELD

logger = logging.getLogger(__name__)

#: A delay beyond it is a mistake: a time in milliseconds, or an infinity.
LONGEST_DELAY_SECONDS = 1e9


def check_delay(name: str, countdown: Any) -> None:
    """Judge a delay in seconds. Raises PushRefused."""
    is_number = isinstance(countdown, int | float) and not isinstance(countdown, bool)
    if not is_number or not abs(countdown) < LONGEST_DELAY_SECONDS:
        raise PushRefused(f"{name}: countdown={countdown!r}: write a number of seconds, less than 1e9.")


def check(name: str, args: Any, kwargs: Any, jid: Any, options: Mapping[str, Any]) -> None:
    """Judge a push. Raises PushRefused: the sentence names task and option, and says what to write."""
    if not isinstance(name, str) or not name:
        raise PushRefused(f"{name!r} is not the name of a class: write app.send_task('HardJob', args=[...])")
    if jid is not None and (not isinstance(jid, str) or not jid.isprintable()):
        raise PushRefused(f"{name}: task_id={jid!r}: a jid is a string without control characters")
    if args is not None and not isinstance(args, list | tuple):
        raise PushRefused(f"{name}: args={args!r}: write a list, such as args=[1].")
    push_policy.check(name, kwargs, options)
    json_values.check_args(args)


def through_ruby(app: Any, name: str, options: dict[str, Any]) -> bool:
    """Whether a push passes the app's client middleware. Takes ``ruby_client`` out of ``options``.

    Raises:
        PushRefused: ``ruby_client`` is neither true nor false.
    """
    wanted = options.pop("ruby_client", None)
    if wanted is None:
        return bool(app.bridge.settings.ruby_client)
    if not isinstance(wanted, bool):
        raise PushRefused(f"{name}: ruby_client={wanted!r}: write True or False.")
    return wanted


def in_ruby(app: Any, name: str, given: Mapping[str, Any], options: Any, publish: Callable[[], Any]) -> Any:
    """Publish through the Rails app. Returns None where client middleware stops the push."""
    implied = {"created_at", "enqueued_at"}
    if "retry" not in given:
        implied.add("retry")
    if not _names_a_queue(app, app.tasks.get(name), options):
        implied.add("queue")
    try:
        with ruby_push.through_ruby(implied):
            return publish()
    except ruby_push.PushHalted as halted:
        logger.info("%s", halted)
        return None


def _names_a_queue(app: Any, task: Any, options: Mapping[str, Any]) -> bool:
    named = any(options.get(option) for option in ("queue", "exchange", "routing_key"))
    own = getattr(task, "queue", None)
    return bool(named or own or app.amqp.router.routes) or app.conf.task_default_queue != "default"


def fields(
    task: Any,
    name: str,
    options: dict[str, Any],
    *,
    through_ruby: bool = False,
    tracked: Container[str] = (),
) -> dict[str, Any]:
    """The fields that a push adds to its payload. Takes what became a field out of ``options``.

    ``tracked`` has the classes whose jobs are tracked.

    Raises:
        PushRefused: Sidekiq, or its Web UI, would stumble over a field.
    """
    if name == messages.RUBY_TASK or (task is not None and is_builtin(task)):
        raise PushRefused(f"{name} runs no job by itself: push one by its class, app.send_task('HardJob').")
    given = options.pop(messages.OPTIONS_HEADER, None)
    own = task.push_options() if isinstance(task, SidekiqTask) else {}
    found = own if given is None else _merged(name, own, given)
    is_ignored, is_tracked = options.pop("ignore_result", None), name in tracked
    if isinstance(task, SidekiqTask):
        is_tracked = is_tracked or task.is_tracked
        if is_ignored and not task.ignore_result:  # Celery fills in the task's own
            found = {FIELD: False, **found}
    if (is_tracked or is_ignored is False) and FIELD not in found:
        found = {**found, FIELD: True}
    if found:
        _check(name, found, through_ruby)
    if shadow := options.pop("shadow", None):
        found = {"display_class": str(shadow), **found}
    if headers := options.pop("headers", None):
        json_values.check_value(headers, "headers")
        found = {**found, **_header_fields(headers)}
    return found


def _header_fields(headers: Any) -> dict[str, Any]:
    """The headers for the native task, and those of Sentry's where its SDK for Ruby puts them as well."""
    sentry = {each: headers[each] for each in messages.SENTRY_HEADERS if each in headers}
    found = {messages.HEADERS_FIELD: dict(headers)}
    return {**found, messages.SENTRY_FIELD: sentry} if sentry else found


def _merged(name: str, own: Mapping[str, Any], given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise PushRefused(f"{name}: sidekiq_options={given!r}: write an object, such as {{'retry': 5}}.")
    return {**own, **given}


def _check(name: str, found: Mapping[str, Any], through_ruby: bool) -> None:
    wrong = sidekiq_options.objection(found, through_ruby=through_ruby)
    if wrong is not None:
        raise PushRefused(f"{name}: sidekiq_options: {wrong}.")
    json_values.check_value(found, "sidekiq_options")
