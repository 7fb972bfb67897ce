"""Celery's ``link``, ``link_error`` and ``chain`` as fields of a payload (``bridge.results.following``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from celery.utils.functional import arity_greater, maybe_list

from bridge.batches import chords
from bridge.execution import moments, pushing, time_limits
from bridge.execution.canvas_groups import many_step
from bridge.results.following import FIELD, MANY, Steps
from bridge.sidekiq.payload.job import new_jid
from bridge.sidekiq.payload.tracked import FIELD as TRACK_FIELD

#: Runs a Python handler of Celery's form with the request, the exception and the traceback.
ERRBACK_TASK = "SidekiqBridge::Errback"
_CHAIN = "celery.chain"
_MANY = ("celery.group", "celery.chord")


def fields(app: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The fields that a push adds for what follows it. Takes it out of ``options``.

    Raises:
        PushRefused: a step that no Sidekiq job can be.
    """
    following = _following(app, options)
    if not following:
        return {}
    store = app.bridge.results.store
    tracked = [step for step in _all(following) if step["options"].get(TRACK_FIELD)]
    store.queued([(step["jid"], step["class"], None) for step in tracked])
    return {FIELD: following, TRACK_FIELD: True}


def _following(app: Any, options: dict[str, Any]) -> dict[str, Any]:
    link, errors = maybe_list(options.pop("link", None)), maybe_list(options.pop("link_error", None))
    chain = options.pop("chain", None) or []
    found = {
        "link": [_step(app, each, tracked=True) for each in link or []],
        "error": [_step(app, each, handler=True) for each in errors or []],
        "chain": _chain(app, list(reversed(chain))),  # Celery pops from its end
    }
    return {name: steps for name, steps in found.items() if steps}


def _step(app: Any, given: Any, *, handler: bool = False, tracked: bool = False) -> dict[str, Any]:
    """One signature of Celery's as a step."""
    signature: Any = app.signature(given)
    if signature.task == _CHAIN:
        first, *rest = signature.tasks
        return _step(app, _with_chain(app.signature(first), rest), handler=handler, tracked=tracked)
    name, options = signature.task, dict(signature.options or {})
    if name in _MANY:
        return many_step(signature, ())
    grouped = chords.taken_fields(options)
    jid = options.pop("task_id", None) or new_jid(os.urandom(12))
    options.pop("reply_to", None)  # Celery fills it in for a frozen signature
    options.pop("immutable", None)  # and this, without an effect, with task_allow_error_cb_on_chord_header
    task = app.tasks.get(name)
    if task is not None:
        own = {option: value for option, value in task._get_exec_options().items() if value is not None}
        options = {**own, **options}
    after = _following(app, options)
    args = list(signature.args or ())
    pushing.check(name, args, signature.kwargs, jid, options)
    step = {"class": name, "args": args, "jid": jid, "immutable": bool(signature.immutable)}
    step |= _time(app, name, options)
    limits = time_limits.of_push(name, options, task)
    own_fields = pushing.fields(task, name, options, tracked=app.bridge.tracked.classes) | limits | grouped
    if after or tracked:
        own_fields[TRACK_FIELD] = True
    step["queue"] = _queue(app, name, args, options, own_fields)
    step["options"] = {name: value for name, value in own_fields.items() if name != "queue"}
    if after:
        step["next"] = after
    return _errback(step, task) if handler and _is_celerys(task) else step


def _chain(app: Any, signatures: Sequence[Any]) -> list[dict[str, Any]]:
    """The steps of a chain. A chord has all that comes after it behind its body."""
    for i, signature in enumerate(signatures):
        if signature["task"] in _MANY:
            before = [_step(app, each, tracked=True) for each in signatures[:i]]
            return [*before, many_step(app.signature(signature), signatures[i + 1 :])]
    return [_step(app, each, tracked=True) for each in signatures]


def _with_chain(first: Any, rest: Any) -> Any:
    found = first.clone()
    found.set(chain=[*(found.options.get("chain") or []), *reversed(list(rest))])
    return found


def _time(app: Any, name: str, options: dict[str, Any]) -> dict[str, Any]:
    countdown, eta = options.pop("countdown", None), options.pop("eta", None)
    if countdown is not None:
        pushing.check_delay(name, countdown)
        return {"countdown": countdown}
    return {} if eta is None else {"at": moments.aware(eta, app).timestamp()}


def _queue(app: Any, name: str, args: Any, options: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    named = {each: options[each] for each in ("queue", "exchange", "routing_key") if options.get(each)}
    if not named and isinstance(own.get("queue"), str):
        return str(own["queue"])
    if "queue" in named and not isinstance(named["queue"], str):
        named["queue"] = named["queue"].name
    return str(app.amqp.straight_router().route(named, name, args, {})["queue"].name)


def _is_celerys(task: Any) -> bool:
    """Whether it is a handler of Celery's form: ``handler(request, exc, traceback)``."""
    header = getattr(task, "__header__", None)
    return header is not None and bool(arity_greater(header, 1))


def _errback(step: dict[str, Any], task: Any) -> dict[str, Any]:
    shown = {"display_class": task.name, **step["options"]}
    return {**step, "class": ERRBACK_TASK, "args": [task.name], "options": shown, "errback": True}


def _all(following: Mapping[str, Steps]) -> list[Mapping[str, Any]]:
    named = [step for name in ("link", "chain") for step in following.get(name, ())]
    found = [each for step in named for each in step.get(MANY, [step])]
    return [*found, *(each for step in found for each in _all(step.get("next") or {}))]
