"""Makes the Celery application.

Not named ``app.py``: then ``from bridge import app`` would give the module.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from celery import Celery, _state, signals
from celery.app.amqp import AMQP
from kombu import Queue

from bridge.broker import messages, push_policy
from bridge.broker.connection import Connection
from bridge.broker.context import OPTION
from bridge.errors import ConfigurationError, PushRefused
from bridge.execution import moments, task_classes
from bridge.execution.task import SidekiqTask
from bridge.fast_path import push
from bridge.runtime import Runtime
from bridge.settings import Settings
from bridge.settings import load as load_settings
from bridge.sidekiq.keys import QUEUE_PREFIX
from bridge.sidekiq.payload.job import new_jid
from bridge.worker import bootsteps, celery_commands, fixups, preflight, settings_check, user_settings
from bridge.worker.events import BridgeEvents
from bridge.worker.user_settings import UserSettings

#: What ``BRIDGE_POOL=bridge`` stands for; Celery takes a configured pool by its path.
OWN_POOL = "bridge.concurrency.hybrid:HybridPool"


class BridgeAMQP(AMQP):
    """Celery's message layer, on connections of this application alone."""

    Connection = Connection
    BrokerConnection = Connection


class Bridge(Celery):
    """A Celery application whose broker is Sidekiq's Redis."""

    bridge: Runtime
    user_settings: UserSettings
    _tasks: Any

    def __init__(self, settings: Settings, **kwargs: Any) -> None:
        super().__init__(
            "bridge",
            amqp=BridgeAMQP,
            events=BridgeEvents,
            task_cls=SidekiqTask,
            set_as_current=False,
            **kwargs,
        )
        self.bridge = Runtime(
            self,
            settings,
            allow_purge=lambda queue: settings.allow_purge and _is_named(queue),
            refusal=click.ClickException if celery_commands.running() is not None else PushRefused,
        )
        self.user_settings = UserSettings(self, _defaults(self.bridge), _transport_options(self.bridge))
        # Imported beside the user's own `include` and `imports`, which replace a setting of ours: no Ruby job
        # would run.
        loader: Any = self.loader
        loader.builtin_modules = ("bridge.tasks", *settings.imports)

    def config_from_object(self, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Celery's own, and its fix-up for Django."""
        fixups.ensure(self)
        return super().config_from_object(obj, *args, **kwargs)

    def autodiscover_tasks(self, *args: Any, **kwargs: Any) -> None:
        """Celery's own, and its fix-up for Django, which knows the apps of a project."""
        fixups.ensure(self)
        super().autodiscover_tasks(*args, **kwargs)

    def config_from_cmdline(self, argv: Any, namespace: str = "celery") -> None:
        """Celery's own: settings at the end of a command line. A sentence about one can name its place."""
        super().config_from_cmdline(argv, namespace)
        self.user_settings.came_by_command_line(self.loader.cmdline_config_parser(argv, namespace))

    def _connection(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Celery's own, to the Redis of our settings under whatever URL the environment names."""
        self.user_settings.ensure_transport_options()
        if celery_commands.running() is not None:
            try:
                settings_check.check_broker(self)
            except ConfigurationError as error:
                preflight.refuse(error)
        return super()._connection(broker_url(self.bridge), *args, **kwargs)  # type: ignore[misc]

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: float | None = None,
        eta: Any = None,
        task_id: str | None = None,
        **options: Any,
    ) -> Any:
        """Push a Sidekiq job. ``sidekiq_options`` (retry, dead, tags, ...) go into its payload.

        Raises:
            PushRefused: keyword arguments, links, chains, priorities, expiry, values that JSON cannot hold: a
                Sidekiq job has no place for them.
        """
        if "reply_to" in options and options["reply_to"] == self.thread_oid:
            del options["reply_to"]  # Celery fills it in for a frozen signature
        with celery_commands.refusing():
            push_policy.check(name, kwargs, options)
            messages.check_args(args)
            eta = None if eta is None else moments.aware(eta, self)
        fields = self._push_fields(name, options.pop(messages.OPTIONS_HEADER, None))
        if options.get("queue") is None and isinstance(fields.get("queue"), str):
            options["queue"] = fields["queue"]
        jid = task_id or new_jid(os.urandom(12))
        if eta is None and push.push(self, name, args, jid, fields, countdown, options):
            return push.result(self, jid, options)
        if fields:
            options["headers"] = {**(options.get("headers") or {}), messages.OPTIONS_HEADER: fields}
        return super().send_task(name, args, None, countdown, eta, jid, **options)

    def _get_backend(self) -> Any:
        """Its methods refuse at once: a job never writes to ``result_backend``."""
        return celery_commands.NoResults(self)

    def _task_from_fun(self, fun: Any, name: str | None = None, base: Any = None, **options: Any) -> Any:
        """Celery's, with a base class that runs Sidekiq jobs, whatever base the user named."""
        base = task_classes.adopted(base or self.Task)
        self.bridge.task_policy.check_name(
            name or self.gen_task_name(fun.__name__, fun.__module__), fun.__module__
        )
        return self._judged(super()._task_from_fun(fun, name, base, **options))

    def register_task(self, task: Any, **options: Any) -> Any:
        """Celery's, for a task class or its instance; it runs Sidekiq jobs, whatever its base is."""
        return self._judged(super().register_task(task_classes.adopted_task(task), **options))

    def _judged(self, task: Any) -> Any:
        try:
            self.bridge.task_policy.judge_new(task)
        except ConfigurationError:
            self._tasks.pop(task.name, None)
            raise
        return task

    def _push_fields(self, name: str, given: Any) -> dict[str, Any]:
        task = self.tasks.get(name)
        own = task.push_options() if isinstance(task, SidekiqTask) else {}
        return {**self._trace_fields(), **own, **(given or {})}

    def _trace_fields(self) -> dict[str, str]:
        if self.bridge.settings.tracing == "off":
            return {}
        from bridge.monitoring import tracing  # needs the extra otel

        return tracing.inject()


def make_app(settings: Settings) -> Bridge:
    """The application for these settings."""
    messages.register()
    app = Bridge(settings)
    _set_backoff(settings)
    bootsteps.install(app)
    signals.import_modules.connect(preflight.check_imports, sender=app, weak=False)
    if celery_commands.running() is not None:
        celery_commands.quieten()
    return app


def _defaults(runtime: Runtime) -> dict[str, Any]:
    """Celery's settings, where the user says nothing."""
    settings = runtime.settings
    found: dict[str, Any] = {
        "broker_url": broker_url(runtime),
        "worker_pool": _pool(settings, sys.argv),
        "worker_enable_remote_control": settings.remote_control,
        "task_queues": [Queue(name, routing_key=name) for name in settings.queues.names],
    }
    if settings.concurrency is not None:
        found["worker_concurrency"] = settings.concurrency
    if settings.child_max_memory_megabytes is not None:
        found["worker_max_memory_per_child"] = settings.child_max_memory_megabytes * 1_000_000 // 1024
    return user_settings.defaults(found)


def _transport_options(runtime: Runtime) -> dict[str, Any]:
    return {
        OPTION: runtime.context,
        # Flower reads depths as LLEN <prefix><queue>, summed over these priorities.
        "global_keyprefix": QUEUE_PREFIX,
        "priority_steps": [0],
    }


def _is_named(queue: str) -> bool:
    """Without -Q the celery command means every queue there is; a program always says which."""
    context = click.get_current_context(silent=True)
    return context is None or queue in (context.params.get("queues") or ())


def broker_url(runtime: Runtime) -> str:
    """The URL as Celery and Flower show it. The transport connects by the settings, in whatever form."""
    address = runtime.redis_address
    scheme = "rediss" if address.tls else "redis"
    host, port = address.sentinels[0] if address.sentinels else (address.host, address.port)
    credentials = f"{address.username or ''}:{address.password}@" if address.password else ""
    return f"{scheme}://{credentials}{host}:{port}/{address.database}"


def _pool(settings: Settings, argv: list[str]) -> str:
    """In Celery a configured pool beats even an explicit ``-P prefork``: so it gives way to any -P."""
    if any(word.startswith(("-P", "--pool")) for word in argv[1:]):
        return "prefork"
    return OWN_POOL if settings.pool == "bridge" else settings.pool


def _set_backoff(settings: Settings) -> None:
    if settings.retry_backoff is not None:
        SidekiqTask.use_backoff(
            settings.retry_backoff, settings.retry_backoff_max_seconds, jitter=settings.retry_jitter
        )


def _load_settings() -> Settings:
    try:
        return load_settings(os.environ)
    except ConfigurationError as error:
        if click.get_current_context(silent=True) is None:
            raise
        # Under the celery command a person reads this: one sentence, no traceback.
        preflight.refuse(error)


def _be_the_default(made: Bridge) -> None:
    """A ``shared_task`` of a process without another Celery application belongs to this one."""
    state: Any = _state
    if state.default_app is None and state._tls.current_app is None:
        made.set_default()


app = make_app(_load_settings())
_be_the_default(app)
