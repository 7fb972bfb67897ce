"""The fast path of an unobserved push: to Redis at once.

Celery makes a message of it, and kombu a declaration, an encoded body and a delivery, which the channel takes
apart again to write the job. That takes several times as long as the push itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

from celery import Celery, signals
from kombu.exceptions import OperationalError

from bridge import errors
from bridge.broker import messages
from bridge.broker.context import BrokerContext
from bridge.broker.push_policy import READABLE

#: Options that change nothing about a Sidekiq job: it has no place for them, and Celery's way drops them too.
WITHOUT_EFFECT = frozenset(
    ["ignore_result", "result_cls", "task_type", "shadow", "time_limit", "soft_time_limit", "delivery_mode"]
)
#: Longer than any delay that is meant; Celery refuses what is much longer.
LONGEST_DELAY_SECONDS = 1e9


def push(
    app: Celery, name: str, args: Any, jid: str, fields: Mapping[str, Any], delay: Any, options: Any
) -> bool:
    """Push a job whose arguments were checked. False where Celery must.

    ``fields`` are more fields of its payload, ``delay`` is in seconds, ``options`` are Celery's. Where Redis
    did not answer, the job may be there already when Celery pushes it again: as with its own second attempt.

    Raises:
        kombu.exceptions.OperationalError: Redis did not answer, and ``task_publish_retry`` is off.
    """
    options = {**_options_of_the_task(app, name, options), **options}
    queue = options.get("queue") or app.conf.task_default_queue
    if not (_is_plain(options, args, delay) and _leads_straight(app, queue) and not _is_observed(app)):
        return False
    now = time.time()
    at = now + delay if delay else None
    context: BrokerContext = cast(Any, app).bridge.context
    job = messages.new_push(queue, name, args or [], jid, fields, at, context.rules().timestamps, now)
    try:
        context.push(job, name)
    except errors.StoreUnavailable as outage:
        if not app.conf.task_publish_retry:
            raise OperationalError(str(outage)) from outage
        return False  # Celery tries again, as often as it is told to
    return True


def result(app: Celery, jid: str, options: Mapping[str, Any]) -> Any:
    """What Celery returns for a task that was sent."""
    made = (options.get("result_cls") or app.AsyncResult)(jid)
    if (parent := app.current_worker_task) is not None:
        parent.add_trail(made)
    return made


def _options_of_the_task(app: Celery, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a task's own, which Celery heeds for a task that is named and not called."""
    task: Any = app.tasks.get(name) if options.get("task_type") is None else None
    found = {} if task is None else task._get_exec_options()
    return {option: value for option, value in found.items() if value is not None}


def _is_plain(options: Mapping[str, Any], args: Any, delay: Any) -> bool:
    return (
        (args is None or isinstance(args, list | tuple))
        and (delay is None or (isinstance(delay, int | float) and 0 <= delay < LONGEST_DELAY_SECONDS))
        and all(
            value is None or option in WITHOUT_EFFECT or _is_ours(option, value)
            for option, value in options.items()
        )
    )


def _is_ours(option: str, value: Any) -> bool:
    """The queue by its name, and a serializer that writes what JSON can hold: every task names one."""
    return (option == "queue" and isinstance(value, str)) or (option == "serializer" and value in READABLE)


def _leads_straight(app: Celery, queue: Any) -> bool:
    """Whether no ``task_routes`` and no declaration of the user's leads it elsewhere."""
    amqp: Any = app.amqp
    return not amqp.router.routes and bool(amqp.queues.leads_straight(queue))


def _is_observed(app: Celery) -> bool:
    return bool(
        signals.before_task_publish.receivers
        or signals.after_task_publish.receivers
        or hasattr(Celery.send_task, "__wrapped__")  # by a library (Sentry)
        or app.conf.task_send_sent_event
        or app.conf.task_always_eager
    )
