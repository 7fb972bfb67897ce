"""Which options of a push a Sidekiq job can carry, and what to write instead of the others.

The names are those of ``Task.apply_async``, ``Celery.send_task`` and ``kombu.Producer.publish``. A push
with an option of neither table is refused: the bridge drops no option without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bridge.errors import PushRefused

#: Serializers of a push: both leave the same JSON in Redis.
READABLE = ("sidekiq", "json")
#: Redis keeps jobs as its own settings say.
PERSISTENT = (2, "persistent")

Rule = Callable[[Any], bool]
"""Takes the value of an option. Returns whether a job can carry it."""

_BROKER = "it leads to another broker. Use app.connection_for_write() of `from bridge import app`"

#: Options that a message of Celery's carries and a job cannot, with the advice for each.
_EMBEDDED: dict[str, str] = {
    **dict.fromkeys(["callbacks", "errbacks", "chain"], "what follows it: push it with app.send_task"),
    **dict.fromkeys(["chord", "group"], "a group or chord: push it with Celery's group or chord"),
    "expires": "expires: write sidekiq_options={'expires_in': 60}",
    "priority": "priority: use a queue of its own and the order of -Q",
    "stamps": "stamps: send the values among the arguments",
}

#: The options of a push that a job cannot carry. Celery fills in some of them later, so a message has them.
_REFUSED: dict[str, str] = {
    **_EMBEDDED,
    "compression": "compression: Ruby reads no compressed job",
    "expiration": _EMBEDDED["expires"],
    "stamped_headers": _EMBEDDED["stamps"],
    "reply_to": "reply_to: a result is stored under the jid. Write @app.task(track=True)",
    "argsrepr": "argsrepr: logs and events hide all arguments unless BRIDGE_SHOW_ARGS is set",
    "kwargsrepr": "kwargsrepr: logs and events hide all arguments unless BRIDGE_SHOW_ARGS is set",
    "mandatory": "mandatory: Redis knows no such option",
    "immediate": "immediate: Redis knows no such option",
    "retries": "retries: sidekiq_options={'retry': 5} says how often it may fail",
}
#: 0 says something here.
_NUMBERS = frozenset(["expires", "expiration", "priority"])


def _any(_: Any) -> bool:
    return True


def _is_ours(value: Any) -> bool:
    """A connection of the bridge's application, or a producer on one."""
    if not hasattr(value, "transport_options"):
        # A producer of a pool connects when its channel is first read.
        value = getattr(value, "connection", None) or value.channel.connection.client
    return bool(getattr(value, "carries_jobs", False))


#: Carried, where the rule says so; else refused with this sentence.
_CARRIED: dict[str, tuple[Rule, str]] = {
    **dict.fromkeys(
        [
            # The place of the job. The router judges it.
            *("queue", "exchange", "exchange_type", "routing_key", "declare", "router", "route_name"),
            # Its time, and the caller's result.
            *("countdown", "eta", "retry", "retry_policy", "result_cls", "add_to_parent", "task_type"),
            # A group or chord that it belongs to.
            *("chord", "group_id", "group_index"),
            # Fields of the payload.
            *("shadow", "headers", "ignore_result", "time_limit", "soft_time_limit", "sidekiq_options"),
            # Celery, beat and canvas add these by themselves.
            *("root_id", "parent_id", "origin", "replaced_task_nesting", "event_dispatcher"),
            *("periodic_task_name", "create_sent_event"),
            # The jobs that follow it.
            *("link", "link_error", "chain"),
        ],
        (_any, ""),
    ),
    "serializer": (READABLE.__contains__, 'Ruby reads JSON only. Remove it, or write serializer="json"'),
    "delivery_mode": (PERSISTENT.__contains__, "Redis keeps every job. Remove it"),
    "connection": (_is_ours, _BROKER),
    "producer": (_is_ours, _BROKER),
    "publisher": (_is_ours, _BROKER),
}


def check(task: str, kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]) -> None:
    """Judge a push. Raises PushRefused: the sentence names task and option, and says what to write."""
    _check_kwargs(task, kwargs)
    for option, value in options.items():
        if value is None:
            continue
        carried = _CARRIED.get(option)
        if carried is None:
            _refuse(task, option, value)
        elif not carried[0](value):
            raise PushRefused(f"{task}: {option}={value!r}: {carried[1]}.")


def check_message(task: str, kwargs: Mapping[str, Any] | None, carried: Mapping[str, Any]) -> None:
    """Judge a message of Celery's. Raises PushRefused. kombu fills in 0 and empty lists."""
    _check_kwargs(task, kwargs)
    for option, advice in _EMBEDDED.items():
        if carried.get(option):
            raise PushRefused(f"{task}: a Sidekiq job cannot carry {advice}.")


def _refuse(task: str, option: str, value: Any) -> None:
    advice = _REFUSED.get(option, f"{option}: remove it, or send it among the arguments")
    if value or option in _NUMBERS or option not in _REFUSED:
        raise PushRefused(f"{task}: a Sidekiq job cannot carry {advice}.")


#: Celery's own tasks behind map, starmap and chunks.
_AT_ONCE = frozenset(["celery.map", "celery.starmap"])


def _check_kwargs(task: str, kwargs: Mapping[str, Any] | None) -> None:
    if task in _AT_ONCE:
        raise PushRefused(
            f"{task}: many calls are no Sidekiq job: write group(add.s(x, y) for x, y in pairs)."
        )
    if kwargs:
        raise PushRefused(
            f"{task}: keyword arguments ({', '.join(sorted(map(str, kwargs)))}) have no place in a "
            "Sidekiq job. Send them as positional arguments, or as one object."
        )
