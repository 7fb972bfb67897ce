"""The only translator between Sidekiq's jobs and Celery's messages.

A message is built from scratch: no key of a payload becomes a header, or a job could name callbacks, time
limits or another task. The payload itself travels untouched beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kombu.serialization
from kombu.message import Message

from bridge.broker import json_values, push_policy
from bridge.errors import PushRefused
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.payload import expiry, new_job, queue_names
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.payload.tracked import FIELD as TRACK_FIELD

#: Content type of arguments on their way into a job: JSON, and nothing that JSON cannot hold.
ARGS_CONTENT = "application/x-sidekiq-args"
ARGS_SERIALIZER = "sidekiq"

#: Header under which the delivery travels to the pool side.
DELIVERY_HEADER = "sidekiq"
#: Header under which the retry rules of the moment travel: a pool process was forked before they were known.
RULES_HEADER = "sidekiq_rules"
#: Header under which the exception of a run travels that is traced after it has failed.
RAISED_HEADER = "sidekiq_raised"
#: Header under which ``sidekiq_options`` travel to the producer.
OPTIONS_HEADER = "sidekiq_options"

#: Field of a payload with the ``headers`` of a push from Python, for ``self.request.headers``.
HEADERS_FIELD = "bridge_headers"

#: Headers of a message that Celery and kombu write (celery/app/amqp.py, ``as_task_v2``).
_CELERYS = (
    *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit"),
    *("root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting"),
    *("stamped_headers", "stamps", "compression", OPTIONS_HEADER),
)

#: Where Sentry's Ruby SDK puts the trace of who pushed a job, and what of it is passed on.
SENTRY_FIELD = "trace_propagation_headers"
SENTRY_HEADERS = ("sentry-trace", "baggage")
#: Datadog's Ruby library puts the trace into these fields; its Python library reads headers of these names.
DATADOG_FIELD = "x-datadog-trace-id"
DATADOG_HEADERS = (
    DATADOG_FIELD, "x-datadog-parent-id", "x-datadog-sampling-priority", "x-datadog-origin", "x-datadog-tags",
)  # fmt: skip

EMBED: dict[str, None] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_HIDDEN = "(...)"

#: The task behind every class that has no native task.
RUBY_TASK = "bridge.perform"


class JobMessage(Message):
    """A claimed job on its way to Celery's worker.

    ``body`` is what Celery decodes a body to, ``(args, kwargs, embed)``: within a process nothing is encoded.
    """

    def __init__(self, unit: UnitOfWork, channel: Any, headers: dict[str, Any], args: Args) -> None:
        # Not kombu's own: it is made for text that comes from anywhere, and takes longer than the claim.
        delivery = unit.delivery
        body: Any = (args[0], args[1], EMBED)
        tag: Any = delivery.token
        properties: dict[str, Any] = {"priority": None, "correlation_id": headers["id"]}
        self.unit = unit
        self.channel = channel
        self.delivery_tag = tag
        self.content_type = self.content_encoding = self.accept = None
        self.delivery_info = {"exchange": "", "routing_key": delivery.queue, "redelivered": False}
        self.properties = properties
        self.headers = headers
        self.body = self._decoded_cache = body
        self.errors = []
        self._state = "RECEIVED"


def register() -> None:
    """Make the content type of pushes known to kombu, under a name of its own."""
    register_serializer: Any = kombu.serialization.register
    register_serializer(ARGS_SERIALIZER, encode_args, json.loads, ARGS_CONTENT, "utf-8")


def from_unit(unit: UnitOfWork, channel: Any, task: str, *, native: bool, show_args: bool) -> JobMessage:
    """The Celery message for a claimed job. ``native`` tasks get its arguments, others read the payload."""
    headers = headers_for(unit, task, unit.id, unit.job.shown_class, show_args=show_args)
    return JobMessage(unit, channel, headers, unit.job.native_arguments() if native else NO_ARGS)


Args = tuple[Sequence[Any], Mapping[str, Any]]
"""Positional and keyword arguments of a task."""

NO_ARGS: Args = ((), {})


def headers_for(
    unit: UnitOfWork, task: str, id_: str, shown_class: str, *, show_args: bool
) -> dict[str, Any]:
    """The headers of a job's message. ``show_args``: events and logs may show its arguments."""
    job = unit.job
    count = job.retry_count if "retry_count" in job.fields else None
    headers: dict[str, Any] = {
        "lang": "py",
        "task": task,
        "id": id_,
        "shadow": shown_class,
        "root_id": id_,
        "parent_id": None,
        "group": None,
        "retries": 0 if count is None else max(0, count + 1),
        "argsrepr": repr(job.args) if show_args else _HIDDEN,
        "kwargsrepr": "{}",
        "ignore_result": True,
        # Celery would look for headers it does not know, in all of them: there is one, and a name for it.
        "headers": {},
        DELIVERY_HEADER: unit.delivery,
    }
    if (sentry := job.fields.get(SENTRY_FIELD)) is not None:
        headers["headers"] = _texts(sentry, SENTRY_HEADERS)
    if DATADOG_FIELD in job.fields:
        headers["headers"] = {**headers["headers"], **_texts(job.fields, DATADOG_HEADERS)}
    if HEADERS_FIELD in job.fields and isinstance(given := job.fields[HEADERS_FIELD], Mapping):
        headers["headers"] = {**given, **headers["headers"]}
    return headers


def _texts(found: Any, names: Sequence[str]) -> dict[str, str]:
    """Headers for a tracer's Python library; nothing else of the payload gets in this way."""
    if not isinstance(found, Mapping):
        return {}
    return {name: found[name] for name in names if isinstance(found.get(name), str)}


def encode_args(body: Any) -> bytes:
    """Encode ``[args, kwargs, embed]`` for a push.

    Raises:
        PushRefused: a value that JSON (and so Ruby) cannot hold.
    """
    json_values.check_args(body[0] if isinstance(body, list | tuple) and body else body)
    if isinstance(body, list | tuple) and len(body) > 1:
        push_policy.check_message("task_always_eager", body[1], {})  # every other push was asked before
    return json.dumps(body, ensure_ascii=False, allow_nan=False, default=str).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Push:
    """A message as a Sidekiq payload: for ``queue`` now, or for ``schedule`` at ``at`` (epoch seconds)."""

    queue: str
    payload: bytes
    at: float | None
    tracked: str | None = None
    """The jid of a tracked job, of which Redis is told before the push."""


def to_push(
    queue: str, message: Mapping[str, Any], body: str | bytes, timestamps: Timestamps, now: float
) -> Push:
    """Translate what Celery publishes into the payload Sidekiq's client would push.

    Raises:
        PushRefused: the message uses something that Sidekiq has no place for.
    """
    headers = message["headers"]
    args, kwargs, embed = json.loads(body)
    push_policy.check_message(headers["task"], kwargs, {**message["properties"], **headers, **embed})
    at = _eta(headers.get("eta"))
    own = _with_headers(headers.get(OPTIONS_HEADER) or {}, headers)
    return new_push(queue, headers["task"], args, headers["id"], own, at, timestamps, now)


def travelling(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The headers of a message that carries these fields. Receivers of signals see the user's own."""
    given = fields.get(HEADERS_FIELD) or {}
    return {**{name: given[name] for name in given if name not in _CELERYS}, OPTIONS_HEADER: fields}


def _with_headers(own: Mapping[str, Any], headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a push, with the headers that a receiver of ``before_task_publish`` added."""
    added = {name: headers[name] for name in headers if name not in _CELERYS and _is_json(headers[name])}
    return {**own, HEADERS_FIELD: {**own.get(HEADERS_FIELD, {}), **added}} if added else own


def _is_json(value: Any) -> bool:
    try:
        json_values.check_value(value, "headers")
    except PushRefused:
        return False  # an object that a library keeps there for itself
    return True


def new_push(
    queue: str,
    job_class: str,
    args: Sequence[Any],
    jid: str,
    own: Mapping[str, Any],
    at: float | None,
    timestamps: Timestamps,
    now: float,
) -> Push:
    """A new job. ``own`` are more fields of its payload; ``at`` (epoch seconds) counts if it is to come.

    Raises:
        PushRefused: no worker could read a queue of this name.
    """
    if (wrong := queue_names.objection(queue)) is not None:
        raise PushRefused(f"{job_class}: {wrong}.")
    at = at if at is not None and at > now else None
    own = expiry.stamped(own, at or now)
    made = new_job.payload(job_class, args, queue, jid, now, timestamps, own, scheduled=at is not None)
    return Push(queue, made, at, jid if own.get(TRACK_FIELD) else None)


def _eta(value: Any) -> float | None:
    if value is None:
        return None
    when = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    # `Bridge.send_task` gives each moment its zone. A naive one comes from a message of another origin.
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
