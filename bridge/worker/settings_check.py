"""Judges what the user set in Celery's settings: refuses what contradicts ours, names what has no effect."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from kombu.utils.imports import symbol_by_name

from bridge.errors import ConfigurationError
from bridge.results import expiry
from bridge.settings.redis_url import RedisUrl, mask
from bridge.worker import setting_types, vain_settings

logger = logging.getLogger(__name__)

BROKER_URLS = ("broker_url", "broker_read_url", "broker_write_url")

#: Celery's settings that one of ours says as well, by the name of ours.
TWINS = {
    "worker_concurrency": "concurrency",
    "worker_pool": "pool",
    "worker_enable_remote_control": "remote_control",
    "worker_max_memory_per_child": "child_max_memory_megabytes",
    "task_queues": "queues",
    "result_expires": "result_ttl_seconds",
}

_RESULTS = "the results of tracked jobs are JSON in Sidekiq's Redis"
#: Settings that contradict what a Sidekiq job is: the values that say nothing, and what to write instead.
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "result_backend": ((None, "", "disabled"), f"{_RESULTS}. Remove it"),
    "worker_direct": ((None, False), "Sidekiq knows no queue of one worker. Remove it"),
    "event_serializer": (("json",), "a client of Redis could run code in Flower. Remove it"),
    "worker_pool_restarts": (
        (None, False),
        "`celery control pool_restart` cuts running jobs off. Remove it, and send HUP to a worker",
    ),
    "worker_pool_start_method": ((None, "", "fork"), "a pool process is a fork. Remove it"),
    "task_compression": ((None, ""), "Ruby reads no compressed job. Remove it"),
}

#: Transport options that kombu's connection reads; every other one is for kombu's own transports.
KOMBU_OPTIONS = ("max_retries", "interval_start", "interval_step", "interval_max", "errback", "callback")


def check(app: Any) -> None:
    """Refuse settings that contradict ours.

    Raises:
        ConfigurationError: the sentence names the setting, who set it, and what to write instead.
    """
    check_broker(app)
    if (refusal := refused(app)) is not None:
        raise ConfigurationError(refusal)
    _check_consumer(app)
    _check_pool(app)
    _check_expiry(app)
    settings = app.bridge.settings
    for name, ours in TWINS.items():
        place = app.user_settings.place(name)
        if place and settings.says(ours) and _plain(app.conf[name]) != _plain(app.user_settings.ours[name]):
            raise ConfigurationError(
                f"{name} = {_plain(app.conf[name])!r} (set {place}) contradicts {settings.source(ours)}: "
                "remove one of them"
            )


def _check_consumer(app: Any) -> None:
    # Late: Celery's consumer takes functions of its tracer, which Sentry may replace until now.
    from bridge.worker.consumer import JobConsumer

    name = app.conf.worker_consumer
    found = symbol_by_name(name)
    if not (isinstance(found, type) and issubclass(found, JobConsumer)):
        raise ConfigurationError(
            f"worker_consumer = {name!r} (set {app.user_settings.place('worker_consumer')}): "
            "it would not know Sidekiq's jobs. Derive it from bridge.worker.consumer:JobConsumer"
        )


def _check_expiry(app: Any) -> None:
    try:
        expiry.seconds(app.conf.result_expires)
    except ValueError as error:
        place = app.user_settings.place("result_expires")
        named = f"result_expires = {app.conf.result_expires!r} (set {place})"
        raise ConfigurationError(f"{named}: {error}") from None


def _check_pool(app: Any) -> None:
    """In Celery a configured pool beats ``-P prefork``, without a word."""
    pool, place = app.conf.worker_pool, app.user_settings.place("worker_pool")
    asked = re.search(r" (-P|--pool)[ =]?prefork\b", " ".join(["", *sys.argv[1:]]))
    if place and asked and pool != "prefork":
        raise ConfigurationError(
            f"worker_pool = {pool!r} (set {place}) contradicts{asked[0]}: remove one of them"
        )


def refused(app: Any) -> str | None:
    """The sentence about the first setting of the user's that no job can have; None without one."""
    for name, (silent, advice) in REFUSED.items():
        value = getattr(app.conf, name)  # the environment, for those that Celery reads there
        if value not in silent and (place := app.user_settings.place(name)):
            shown = mask(value) if isinstance(value, str) else value
            return f"{name} = {shown!r} (set {place}): {advice}."
    return None


def check_broker(app: Any) -> None:
    """Refuse a broker that is not Sidekiq's Redis. Raises ConfigurationError."""
    settings = app.bridge.settings
    for name in BROKER_URLS:
        url, place = getattr(app.conf, name), app.user_settings.place(name)
        if place and not _is_here(url, app):
            raise ConfigurationError(
                f"{name} = {mask(str(url))!r}, set {place}, is not the Redis of the bridge, "
                f"{settings.redis_url}: write it into {settings.source('redis_url')}, or remove it"
            )


def warn(instance: Any, **_: Any) -> None:
    """Name the settings without an effect. Celery calls this once the log of a worker is set up."""
    if hasattr(instance.app, "bridge"):
        for sentence in (*in_vain(instance.app), *setting_types.near_names(instance.app)):
            logger.warning("%s", sentence)


def in_vain(app: Any) -> Iterator[str]:
    """A sentence for each setting of the user's that has no effect here."""
    for name in app.user_settings.names():
        if (reason := vain_settings.reason(name)) is not None:
            yield f"{name} (set {app.user_settings.place(name)}) has no effect: {reason}"
    if _is_unread("celeryconfig"):
        yield (
            f"celeryconfig.py in {os.getcwd()} is not read: name it with --config celeryconfig, "
            "CELERY_CONFIG_MODULE=celeryconfig or app.config_from_object"
        )
    if foreign := [name for name in app.user_settings.transport_options() if name not in KOMBU_OPTIONS]:
        yield (
            f"broker_transport_options: {', '.join(sorted(foreign))} {_have(foreign)} no effect: "
            "the BRIDGE_ settings of README.md say how Redis is reached"
        )
    if (unread := _unread_default(app)) is not None:
        yield unread


def _unread_default(app: Any) -> str | None:
    """The sentence about a default queue that takes pushes and that this worker does not read."""
    default, place = app.conf.task_default_queue, app.user_settings.place("task_default_queue")
    is_chosen = app.amqp.queues.is_selected or app.bridge.settings.says("queues")
    if place is None or is_chosen or default in app.amqp.queues.consume_from:
        return None
    return (
        f"task_default_queue = {default!r} (set {place}): pushes go there, and this worker does not read it. "
        f"Write BRIDGE_QUEUES={default}, or -Q {default}"
    )


def _is_unread(module: str) -> bool:
    """Whether a file that Celery reads for an application without a name of its own is here in vain."""
    try:
        with open(f"{module}.py", encoding="utf-8") as file:
            is_ours = "bridge.celery_settings" in file.read()
    except (OSError, ValueError):
        return False
    return not is_ours and module not in sys.modules


def _have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _plain(value: Any) -> Any:
    """A value that two places may be compared by: queues by their names."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return sorted(str(getattr(each, "name", each)) for each in value)
    return value


def _is_here(url: Any, app: Any) -> bool:
    """Whether a URL of Celery's form leads to the Redis of our settings."""
    if str(url) == app.user_settings.ours["broker_url"]:
        return True
    try:
        found = RedisUrl.parse(str(url))
    except ValueError:
        return False
    here = app.bridge.settings.redis_url
    return _where(found) == _where(here)


def _where(url: RedisUrl) -> tuple[Any, ...]:
    hosts = [("127.0.0.1" if each.host == "localhost" else each.host, each.port) for each in url.addresses]
    return (url.scheme, hosts, url.db, url.master, url.path)
