"""Bootsteps: when the worker's parts begin and end. The work itself is in plain objects."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals

from bridge.concurrency import prefork
from bridge.errors import ConfigurationError
from bridge.execution.time_limits import Limits
from bridge.monitoring.logs import setup
from bridge.periodic import Periodic
from bridge.redis import commands
from bridge.sidekiq.lease.keeper import Keeper
from bridge.sidekiq.lease.reaper import Reaper as ReaperWork
from bridge.sidekiq.process import version_probe
from bridge.sidekiq.process.error_handlers import ErrorHandlers
from bridge.sidekiq.process.heartbeat import Heartbeat as HeartbeatWork
from bridge.sidekiq.schedule.due_watch import DueWatch
from bridge.sidekiq.schedule.scheduler import Scheduler as SchedulerWork
from bridge.worker import control, end_signals, garbage, pool_options, preflight, settings_check, vain_options
from bridge.worker.app_queues import AppQueues
from bridge.worker.process_info import process_info
from bridge.worker.running_jobs import RunningJobs
from bridge.worker.shutdown import Lifecycle, dump_threads

if TYPE_CHECKING:
    from bridge.runtime import Runtime

logger = logging.getLogger(__name__)

#: By name: when it is loaded, Celery takes functions of its tracer. Sentry, which replaces these, may be set
#: up by a module that the application imports later.
_TASKS = "celery.worker.consumer:Tasks"


class BridgeStep(bootsteps.StartStopStep):
    """A part that runs in a thread of its own, from the first start of the consumer to the end of the worker.

    Nothing ends in ``stop``: the consumer stops before the pool has finished, and a worker that still runs
    jobs must not look dead.
    """

    requires: tuple[Any, ...] = (_TASKS,)  # Blueprint decides the rest of the order
    thread: Periodic | None = None

    def runtime(self, c: Any) -> Runtime:
        """The parts of this process."""
        runtime: Runtime = c.app.bridge
        return runtime

    def start(self, c: Any) -> None:
        """Begin, once: the consumer starts again after each lost connection."""
        if self.thread is None:
            self.thread = self.make(c)
            self.thread.start()

    def stop(self, c: Any) -> None:
        """Not yet: see ``shutdown``."""

    def shutdown(self, c: Any) -> None:
        """The pool has finished: end."""
        if self.thread is not None:
            self.thread.stop()

    def make(self, c: Any) -> Periodic:
        """The thread and its work, which it attaches to the runtime."""
        raise NotImplementedError


class Sidecar(BridgeStep):
    """Asks the sidecar how it is, and opens and closes the breaker."""

    def make(self, c: Any) -> Periodic:
        """Probe once before the first job is taken: its answer says which Sidekiq we work beside."""
        runtime = self.runtime(c)
        runtime.on_health.append(AppQueues(runtime, c).learn)
        if runtime.store.tells_ruby:
            handlers = ErrorHandlers(runtime.dialect, runtime.store.client)
            runtime.on_health.append(lambda health: handlers.remember())
            handlers.recall()
        runtime.breaker.round()
        version_probe.teach(runtime.dialect, runtime.store.client, runtime.lease.identity)
        thread = Periodic("sidecar", runtime.probe_sidecar)
        runtime.background.attach(thread)
        return thread


class Scheduler(BridgeStep):
    """Moves due jobs to their queues."""

    requires = (Sidecar,)  # which says how this Sidekiq writes times

    def make(self, c: Any) -> Periodic:
        """Make the scheduler."""
        runtime = self.runtime(c)
        dialect = runtime.dialect
        work = SchedulerWork(
            runtime.store,
            lambda: dialect.timestamps,
            lambda: dialect.dead_limits,
            quiet=lambda: runtime.fetcher.in_flight.is_quiet,
            longest_sleep_seconds=runtime.settings.poll_interval_seconds,
            lease=runtime.lease,
            middleware=runtime.promotion,
            watch=DueWatch(runtime.store.client),
        )
        thread = Periodic("scheduler", work.round)
        runtime.background.attach(thread, scheduler=work)
        return thread

    def stop(self, c: Any) -> None:
        """A worker that goes promotes nothing more; Sidekiq's poller ends with quiet as well."""
        if self.thread is not None:
            self.thread.stop()


class Reaper(BridgeStep):
    """Keeps the lease, with its keeper, and gives back what dead workers held."""

    requires = (Sidecar,)  # which says how many dead jobs are kept

    def make(self, c: Any) -> Periodic:
        """Make the reaper."""
        runtime = self.runtime(c)
        commands.warn(runtime.store.client)
        self.keeper = Keeper(runtime.redis_address, runtime.settings.lease_seconds)
        work = ReaperWork(
            runtime.store, runtime.lease, lambda: runtime.dialect.dead_limits,
            runtime.fetcher.loop_ticks, self.keeper.report, runtime.fetcher.reconciler.compare,
            runtime.limiter.lines.reaped,
        )  # fmt: skip
        thread = Periodic("recovery", work.round)
        runtime.background.attach(thread, reaper=work)
        return thread

    def shutdown(self, c: Any) -> None:
        """End the thread, then the keeper: the heartbeat has ended the lease."""
        super().shutdown(c)
        if self.thread is not None:
            self.keeper.stop(lease_ended=self.runtime(c).lease.ended)


class Heartbeat(BridgeStep):
    """The Busy page, the signals of the Web UI, and this worker's own end."""

    requires = (Reaper,)  # and so it ends before the reaper: first the lease ends, then its keeper

    def make(self, c: Any) -> Periodic:
        """Make the heartbeat, and the lifecycle that it reports to."""
        runtime = self.runtime(c)
        jobs = RunningJobs(runtime)
        self.lifecycle = Lifecycle(
            runtime.fetcher,
            runtime.settings.shutdown_timeout_seconds,
            jobs.interrupt,
            runtime.release,
            ask_to_stop=jobs.ask_to_stop,
            end_runs=getattr(c.pool, "end_processes", lambda: None),
            soft_seconds=c.app.conf.worker_soft_shutdown_timeout or 0.0,
            exit_process=lambda status: end_signals.exit_now(c.controller, status),
        )
        end_signals.install(c.hostname, may_block=type(c.pool).__module__.endswith(".solo"))
        self.work = HeartbeatWork(
            runtime.redis_client(),
            runtime.fetcher,
            lambda: process_info(runtime),
            runtime.metrics,
            lambda: runtime.dialect.metrics,
            self.lifecycle.on_signal,
            see_notices=runtime.teller.see if runtime.store.tells_ruby else None,
        )
        self.lifecycle.attach(self.work, runtime.cancellation)
        thread = Periodic("heartbeat", lambda: self._round(c), pause_after_error_seconds=0.5)
        runtime.background.attach(
            thread, heartbeat=self.work, give_up=self.lifecycle.give_up, quiet=self.lifecycle.quiet
        )
        return thread

    def _round(self, c: Any) -> float:
        if c.event_dispatcher is not None:
            c.event_dispatcher.flush()
        return self.work.round()

    def shutdown(self, c: Any) -> None:
        """Leave the Busy page and end the lease."""
        super().shutdown(c)
        if self.thread is not None:
            self.lifecycle.finish()


class TimeLimits(BridgeStep):
    """Ends jobs whose time is up, and this worker when too many do not end."""

    requires = (Heartbeat,)

    def make(self, c: Any) -> Periodic:
        """Make the watch. Its thread sleeps while no running job has a limit."""
        runtime = self.runtime(c)
        runtime.attach_pool(c.pool)
        limits = Limits(c.controller.time_limit, c.controller.soft_time_limit)
        runtime.cancellation.limits.set_default(limits)
        thread = Periodic("time-limits", runtime.cancellation.round)
        runtime.background.attach(thread)
        return thread


def install(app: Any) -> None:
    """Add the steps to an application, and listen to its workers' signals."""
    app.steps["consumer"].update([Heartbeat, Sidecar, TimeLimits, Scheduler, Reaper])
    # By name: only a worker needs to load them.
    app.steps["consumer"].add("bridge.worker.ruby_middleware:RubyMiddleware")
    app.steps["consumer"].update(
        f"bridge.worker.optional_steps:{name}"
        for name in ("Limits", "Moves", "Notices", "QueueLimits", "Results", "Sentinels")
    )
    app.steps["worker"].update(
        [
            "bridge.worker.ending:Ending",
            "bridge.monitoring.bootstep:Monitoring",
            "bridge.monitoring.health.systemd:Notifying",
        ]
    )
    setup.install()
    app.on_after_configure.connect(preflight.check_names, sender=app, weak=False)
    signals.import_modules.connect(preflight.check_types, weak=False)
    signals.worker_init.connect(_check_worker, weak=False)
    for check in (settings_check.warn, vain_options.warn, pool_options.check_made):
        signals.celeryd_after_setup.connect(check, weak=False)
    signals.worker_process_init.connect(prefork.watch_parent, weak=False)


def _check_worker(sender: Any, **_: Any) -> None:
    """Refuse a configuration that breaks a promise, before anything is taken from a queue."""
    garbage.set_aside(is_restart=False)  # the application's modules
    if not hasattr(app := sender.app, "bridge"):
        return  # another Celery application in this process
    try:
        pool_options.check(sender)
        preflight.check(app, sender)
        preflight.install_tracing(app.bridge.settings)
    except ConfigurationError as error:
        preflight.refuse(error)
    prefork.prepare(app, sender)
    control.install()
    signal.signal(signal.SIGTSTP, lambda *_: (app.bridge.fetcher.quiet(), app.bridge.background.quiet()))
    signal.signal(signal.SIGTTIN, lambda *_: dump_threads())
