"""Makes the Celery application.

Not named ``app.py``: then ``from bridge import app`` would give the module.
"""

from __future__ import annotations

import os
from functools import cached_property, partial
from typing import Any, cast

import click
from celery import Celery, _state, signals

from bridge.batches import chords, whole
from bridge.batches.batch import Batch
from bridge.broker import messages
from bridge.errors import ConfigurationError, PushRefused
from bridge.execution import canvas, moments, pushing, task_classes, time_limits
from bridge.execution.message_layer import BridgeAMQP
from bridge.execution.task import SidekiqTask
from bridge.fast_path import push
from bridge.runtime import Runtime
from bridge.settings import Settings
from bridge.settings import load as load_settings
from bridge.sidekiq.payload.job import new_jid
from bridge.worker import bootsteps, celery_commands, daemon, fixups, preflight, settings_check, task_modules
from bridge.worker.events import BridgeEvents
from bridge.worker.user_settings import UserSettings


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
        self.user_settings = UserSettings(self)
        task_modules.install(self)

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

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """``celery beat``, which refuses a bad schedule when it reads it."""
        by_name: Any = "bridge.worker.beat_command:CheckingBeat"  # it loads Celery's beat
        return self.subclass_with_self(by_name)

    def _connection(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        """Celery's own, to the Redis of our settings under whatever URL the environment names."""
        self.user_settings.ensure_transport_options()
        if celery_commands.running() is not None:
            try:
                settings_check.check_broker(self)
            except ConfigurationError as error:
                preflight.refuse(error)
        return super()._connection(self.user_settings.ours["broker_url"], *args, **kwargs)  # type: ignore[misc]

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

        ``ruby_client=True`` pushes through the Rails app: options of the Ruby class and client middleware
        apply. Returns None where middleware stops the push, as ``perform_async`` does.

        Raises:
            PushRefused: keyword arguments, links, chains, priorities, expiry, values that JSON cannot hold: a
                Sidekiq job has no place for them.
        """
        if options.get("reply_to", "") == self.thread_oid:
            del options["reply_to"]  # Celery fills it in for a frozen signature
        with celery_commands.refusing():
            through_ruby = pushing.through_ruby(self, name, options)
            pushing.check(name, args, kwargs, task_id, options)
            if countdown is not None:
                pushing.check_delay(name, countdown)
            result = self._push(name, args, countdown, eta, task_id, options, through_ruby)
            if result is None and celery_commands.running() == "call":
                raise PushRefused(f"{name}: the app's client middleware stopped the push")
            return result

    def _push(
        self,
        name: str,
        args: Any,
        countdown: Any,
        eta: Any,
        task_id: str | None,
        options: dict[str, Any],
        through_ruby: bool,
    ) -> Any:
        eta = None if eta is None else moments.aware(eta, self)
        grouped = chords.taken_fields(options)
        limits = time_limits.of_push(name, options, self.tasks.get(name))
        fields = {
            **self._trace_fields(),
            **pushing.fields(
                self.tasks.get(name),
                name,
                options,
                through_ruby=through_ruby,
                tracked=self.bridge.tracked.classes,
            ),
            **limits,
            **canvas.fields(self, options),
            **grouped,
        }
        if options.get("queue") is None and isinstance(fields.get("queue"), str):
            options["queue"] = fields["queue"]
        jid = task_id or new_jid(os.urandom(12))
        if not through_ruby:
            return self._publish(name, args, jid, fields, countdown, eta, options)
        publish = partial(self._publish, name, args, jid, fields, countdown, eta, options)
        return pushing.in_ruby(self, name, fields, options, publish)

    def _publish(
        self, name: str, args: Any, jid: str, fields: Any, countdown: Any, eta: Any, options: dict[str, Any]
    ) -> Any:
        if eta is None and push.push(self, name, args, jid, fields, countdown, options):
            return push.result(self, jid, options)
        if fields:
            options["headers"] = messages.travelling(fields)
        options["router"] = cast(BridgeAMQP, self.amqp).straight_router(options.get("router"))
        result = super().send_task(name, args, None, countdown, eta, jid, **options)
        result.ignored = False  # or get() would return None at once
        return result

    @cached_property
    def Batch(self) -> type[Batch]:  # noqa: N802 - as Celery names its classes
        """:class:`bridge.batches.batch.Batch` of this application."""
        return type("Batch", (Batch,), {"app": self, "__doc__": Batch.__doc__})

    def _get_backend(self) -> Any:
        """The results of tracked jobs, in Sidekiq's Redis. ``result_backend`` names no other place."""
        return celery_commands.Results(self, lambda: self.bridge.results)

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

    def _trace_fields(self) -> dict[str, str]:
        if self.bridge.settings.tracing == "off":
            return {}
        from bridge.monitoring import tracing  # needs the extra otel

        return tracing.inject()


whole.install(Bridge)


def make_app(settings: Settings) -> Bridge:
    """The application for these settings."""
    messages.register()
    app = Bridge(settings)
    _set_backoff(settings)
    bootsteps.install(app)
    app.steps["worker"].add("bridge.worker.beat:BeatCheck")  # by name: only a worker needs to load it
    signals.import_modules.connect(task_modules.check_imports, sender=app, weak=False)
    if celery_commands.running() is not None:
        celery_commands.install()
        daemon.install(app)
    return app


def _is_named(queue: str) -> bool:
    """Without -Q the celery command means every queue there is; a program always says which."""
    context = click.get_current_context(silent=True)
    return context is None or queue in (context.params.get("queues") or ())


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
