"""Values of settings that Celery would trip over later, and names that are nearly those of settings.

Celery reads most values when it needs them. A wrong one ends a worker in a traceback, or means another.
"""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery.app.defaults import NAMESPACES, flatten
from celery.concurrency import get_implementation
from kombu import Queue
from kombu.exceptions import ContentDisallowed, SerializerNotInstalled
from kombu.serialization import prepare_accept_content
from kombu.utils.imports import symbol_by_name


def _options() -> list[tuple[str, Any]]:
    return list(flatten(NAMESPACES))  # type: ignore[arg-type]  # the stubs know dicts of text alone


_TYPES: dict[str, Any] = {name: option.type for name, option in _options()}
_LISTS = (list, tuple, set, frozenset)
#: How much a name must be like that of a setting.
_SIMILAR = 0.88


def _is_number(kind: type) -> Callable[[Any], bool]:
    def judge(value: Any) -> bool:
        if isinstance(value, bool):
            return False
        try:
            kind(value)
        except (TypeError, ValueError):
            return False
        return True

    return judge


#: Celery's type of a setting: whether a value has it, and what to write.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "bool": (lambda value: value in (True, False), "write True or False"),
    "int": (_is_number(int), "write a whole number"),
    "float": (_is_number(float), "write a number"),
    "dict": (lambda value: isinstance(value, Mapping), "write a dict"),
    "list": (lambda value: isinstance(value, _LISTS), "write a list"),
}
#: Settings that name a class, and what loads those that have short names.
_CLASSES = ("worker_timer", "worker_agent", "worker_autoscaler", "worker_consumer")
_LOADERS: dict[str, Callable[[str], Any]] = {"worker_pool": get_implementation}
_PATH = 'Write "package.module:Class", or remove it'
_SLOTS = 'write a whole number of at least 1, or "auto"'
#: Judged by rules of their own, or of several types.
_OTHERS = ("result_expires", "task_queues")


def wrong(app: Any) -> str | None:
    """The sentence about the first setting of the user's that Celery cannot use; None without one."""
    for name in app.user_settings.names():
        value = app.conf[name]
        is_right, advice = _RULES.get(_TYPES.get(name, ""), (None, ""))
        if is_right is not None and name not in _OTHERS and value is not None and not is_right(value):
            return f"{name} = {value!r} (set {app.user_settings.place(name)}): {advice}"
    rules = (_wrong_concurrency, _wrong_zone, _wrong_queues, _wrong_content, _wrong_classes)
    return next((sentence for rule in rules if (sentence := rule(app)) is not None), None)


def _wrong_concurrency(app: Any) -> str | None:
    value, place = app.conf.worker_concurrency, app.user_settings.place("worker_concurrency")
    is_right = value in (None, "auto") or (_is_number(int)(value) and int(value) >= 1)
    return None if is_right or not place else f"worker_concurrency = {value!r} (set {place}): {_SLOTS}"


def _wrong_zone(app: Any) -> str | None:
    name, place = app.conf.timezone, app.user_settings.place("timezone")
    if not place or not isinstance(name, str):
        return None
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return f'timezone = {name!r} (set {place}): this machine knows no such zone. Write for example "UTC"'
    return None


def _wrong_queues(app: Any) -> str | None:
    value, place = app.conf.task_queues, app.user_settings.place("task_queues")
    if not place or value is None:
        return None
    each = value.values() if isinstance(value, Mapping) else value if isinstance(value, _LISTS) else [None]
    wanted = Mapping if isinstance(value, Mapping) else (str, Queue)
    if all(isinstance(one, wanted) for one in each):
        return None
    return f'task_queues = {value!r} (set {place}): write a list, [Queue("name")]'


def _wrong_content(app: Any) -> str | None:
    value, place = app.conf.accept_content, app.user_settings.place("accept_content")
    try:
        prepare_accept_content(value if place else None)
    except (KeyError, ContentDisallowed, SerializerNotInstalled):
        return f'accept_content = {value!r} (set {place}): kombu knows no such content. Write ["json"]'
    return None


def _wrong_classes(app: Any) -> str | None:
    for name in _CLASSES:
        value, place = app.conf[name], app.user_settings.place(name)
        if not place or not isinstance(value, str):
            continue
        try:
            _LOADERS.get(name, symbol_by_name)(value)
        except (ImportError, AttributeError, ValueError) as error:
            return f"{name} = {value!r} (set {place}) cannot be loaded: {error}. {_PATH}"
    return None


def unloadable(conf: Mapping[str, Any]) -> str | None:
    """The sentence about a pool or annotations that cannot be loaded; None without one."""
    for name in ("worker_pool", "task_annotations"):
        value = conf[name]
        if not isinstance(value, str):
            continue
        try:
            _LOADERS.get(name, symbol_by_name)(value)
        except (ImportError, AttributeError, ValueError) as error:
            return f"{name} = {value!r} cannot be loaded: {error}. {_PATH}"
    return None


def near_names(app: Any) -> Iterator[str]:
    """A sentence for each name that is nearly a setting: Celery keeps it, and reads it nowhere."""
    for name, place in app.user_settings.unknown():
        for near in difflib.get_close_matches(name, _TYPES, n=1, cutoff=_SIMILAR):
            yield f"{name} (set {place}) has no effect: did you mean {near}?"
