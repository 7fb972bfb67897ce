"""Refuses to start with settings that lose jobs."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any, NoReturn

import redis

from bridge.broker.transport import Transport
from bridge.errors import (
    EX_CONFIG,
    EX_NOPERM,
    ConfigurationError,
    RedisRefusal,
    SidecarError,
    SidecarRejected,
)
from bridge.execution import coroutine_rules
from bridge.monitoring import native_names
from bridge.redis import client as connection
from bridge.redis import commands
from bridge.settings import Settings, redis_mistakes
from bridge.sidekiq.payload import queue_names
from bridge.worker import celery_commands, setting_types, settings_check

#: Celery settings that an invariant rests on, with what would break.
REQUIRED: dict[str, tuple[Any, str]] = {
    "task_acks_late": (True, "a job would be settled before it has run, and lost in a crash"),
    "task_acks_on_failure": (True, "a failed job would be rejected instead of retried"),
    "task_acks_on_timeout": (True, "a job that ran into its time limit would be given back again and again"),
    "task_reject_on_worker_lost": (False, "a job that kills its process would run again and again"),
    "worker_prefetch_multiplier": (1, "jobs would leave their queue before a slot is free"),
}
#: A push checks its arguments before either of them sees these.
SERIALIZERS = ("sidekiq", "json")


def check(app: Any, worker: Any) -> None:
    """Refuse settings that break an invariant.

    Raises:
        ConfigurationError: the sentence names the setting, its value, and what to write instead.
    """
    for name, (value, harm) in REQUIRED.items():
        if app.conf[name] != value:
            raise ConfigurationError(
                f"{name} = {app.conf[name]!r} (set {app.user_settings.place(name)}): {harm}. "
                f"Remove it, or set it to {value!r}."
            )
    if (serializer := app.conf.task_serializer) not in SERIALIZERS:
        raise ConfigurationError(
            f"task_serializer = {serializer!r} (set {app.user_settings.place('task_serializer')}): "
            "Ruby could not read what Python pushes. Remove it, or set it to 'json'."
        )
    if {"pickle", "application/x-python-serialize", "yaml"} & set(app.conf.accept_content):
        raise ConfigurationError(
            "accept_content names pickle or yaml: any client of Redis could run code. Remove it."
        )
    transport = app.connection_for_read().transport
    if not isinstance(transport, Transport):
        raise ConfigurationError(
            f"the broker's transport is {type(transport).__name__}: it would read Sidekiq's lists as its "
            "own. Leave broker_transport unset and use `from bridge import app`."
        )
    settings_check.check(app)
    _check_ruby_middleware(app)
    _check_queues(app.amqp.queues, app.bridge.settings.queues.names)
    app.bridge.task_policy.enforce()
    _check_coroutines(app, worker.pool_cls)
    _check_purge(app, getattr(worker, "purge", False))
    _check_redis(app.bridge)
    _check_sidecar(app.bridge)


def check_types(sender: Any, **_: Any) -> None:
    """Refuse values that Celery would trip over while it makes the worker. Celery calls this before."""
    if celery_commands.running() != "worker" or not hasattr(sender, "bridge"):
        return
    if (sentence := setting_types.wrong(sender)) is not None:
        refuse(ConfigurationError(sentence))


def check_names(source: Any, **_: Any) -> None:
    """Refuse a pool or annotations that cannot be loaded: Celery loads them before it makes the worker."""
    if celery_commands.running() == "worker" and (sentence := setting_types.unloadable(source)) is not None:
        refuse(ConfigurationError(sentence))


def _check_coroutines(app: Any, pool: Any) -> None:
    for sentence in (coroutine_rules.pool_objection(app, pool), *coroutine_rules.signal_objections()):
        if sentence is not None:
            raise ConfigurationError(sentence)


def _check_purge(app: Any, is_wanted: bool) -> None:
    """Refuse ``--purge`` before a queue is emptied: Celery's own end is a traceback."""
    for queue in app.amqp.queues.consume_from if is_wanted else ():
        if (wrong := app.bridge.context.purge_objection(queue)) is not None:
            raise ConfigurationError(wrong)


def install_tracing(settings: Settings) -> None:
    """Make spans of jobs, where the settings ask for them. Raises ConfigurationError without the extra."""
    style = settings.tracing
    if style == "off":
        return
    try:
        from bridge.monitoring.tracing import Tracing  # only who wants spans needs the library
    except ImportError as error:
        named = f"{settings.source('tracing')}={style}"
        raise ConfigurationError(
            f"{named} needs OpenTelemetry ({error}): pip install 'sidekiq-bridge[otel]'"
        ) from None
    Tracing(links=style == "link").install()


def refuse(error: ConfigurationError) -> NoReturn:
    """End this process over its configuration: one sentence for a person, a status for a supervisor."""
    print(f"bridge: {error}", file=sys.stderr)
    celery_commands.tell_log_file(f"bridge: {error}")
    sys.exit(EX_NOPERM if isinstance(error, RedisRefusal) else EX_CONFIG)


def _check_ruby_middleware(app: Any) -> None:
    settings, natives = app.bridge.settings, native_names.native(app)
    for name in settings.ruby_middleware:
        if name not in natives:
            raise ConfigurationError(
                f"{settings.source('ruby_middleware')} names {name}, and no native task has that name: "
                "correct it, or name the module of the task in BRIDGE_IMPORTS"
            )


def _check_queues(queues: Any, written: Collection[str]) -> None:
    """A number at the end of a name may belong to it if the settings have it (``written``)."""
    if not queues.consume_from:
        raise ConfigurationError(
            "-X leaves this worker no queue. Leave -X away, or name another queue by -Q."
        )
    for name in queues.broadcasts(queues.consume_from):
        raise ConfigurationError(
            f"the queue {name} in task_queues is a broadcast, and a Sidekiq job runs once. Declare it as "
            f"Queue({name!r}), without Broadcast and without a fanout exchange."
        )
    for name in queues.consume_from:
        plain, _, weight = name.rpartition(":")
        if plain and weight.isdigit() and name not in written:
            raise ConfigurationError(
                f"-Q {name}: -Q takes names in strict order; weights are written BRIDGE_QUEUES={name}, "
                f"and a queue of that name is written BRIDGE_QUEUES={name}:0"
            )
        if not queue_names.QUEUE_NAME.fullmatch(name):
            raise ConfigurationError(
                f'-Q "{name}": the name of a queue has letters, digits and _ : . - only, '
                "and commas without spaces separate names: -Q critical,default"
            )


def _check_redis(runtime: Any) -> None:
    """The worker waits for a Redis that is away. It refuses a Redis that refuses this user or has no such
    database, and a server that is not Redis.
    """
    client = connection.connect(runtime.redis_address)
    try:
        client.ping()
        commands.require(client)
    except RedisRefusal:
        raise
    except (redis.RedisError, OSError) as error:
        mistake = redis_mistakes.explain(error, runtime.settings)
        if redis_mistakes.is_refusal(error):
            raise RedisRefusal(str(mistake)) from None
        if redis_mistakes.is_wrong_address(error):
            raise ConfigurationError(str(mistake)) from None
        # The worker waits for it, and says so.
    finally:
        client.close()


def _check_sidecar(runtime: Any) -> None:
    settings = runtime.settings
    if settings.has_sidecar:
        settings.require_safe_sidecar()
        try:
            runtime.breaker.ask_early()
        except SidecarRejected as error:
            if error.code == "gems":
                raise ConfigurationError(str(error)) from None
        except SidecarError:
            pass  # the worker waits for it, and the breaker asks it again
