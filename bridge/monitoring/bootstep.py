"""The bootstep: when probes, metrics and job lines begin and end. The work is in plain objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from bridge.monitoring import start_line
from bridge.monitoring.health.memory_limit import MemoryCeiling
from bridge.monitoring.health.report import Report
from bridge.monitoring.health.server import NOT_ACCEPTABLE, Reply, Routes, Server
from bridge.monitoring.health.snapshot import Examiner
from bridge.monitoring.health.verdict import LoopWatch
from bridge.monitoring.logs.job_lines import JobLog
from bridge.monitoring.metrics.jobs import JobSeries
from bridge.monitoring.metrics.limits import LimitSeries
from bridge.monitoring.metrics.moves import MoveSeries
from bridge.monitoring.metrics.pushes import PushSeries
from bridge.monitoring.metrics.queues import QueueSeries
from bridge.monitoring.metrics.tallies import JobTallies
from bridge.monitoring.metrics.worker import WorkerSeries
from bridge.periodic import Periodic
from bridge.redis.client import connect

if TYPE_CHECKING:
    from bridge.runtime import Runtime

#: A scrape waits no longer for Redis: probes and the other series must not hang on it.
REDIS_SECONDS = 0.5


class Monitoring(bootsteps.StartStopStep):
    """A step of the worker, not of its consumer, which begins only when Redis answers; after the pool's fork.

    ``stop`` ends nothing: the pool still finishes its jobs, and the probes must go on telling so.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        """Watch the jobs and serve."""
        runtime: Runtime = parent.app.bridge
        tallies = JobTallies()
        job_log = JobLog()
        runtime.listeners.started.append(job_log.started)
        runtime.listeners.settled.extend((tallies.settled, job_log.settled))
        start_line.say(runtime, parent)
        server = Server(_routes(runtime, tallies, parent))
        bind = runtime.settings.health_bind
        server.start(bind.host, bind.port)
        if runtime.settings.health_return and server.port not in (None, bind.port):
            Periodic("health-port", lambda: server.come_back(bind.host, bind.port)).start()
        if runtime.settings.max_memory_megabytes is not None:
            ceiling = MemoryCeiling(runtime.settings.max_memory_megabytes)
            Periodic("memory", ceiling.round).start()
        signals.worker_shutdown.connect(lambda **_: server.stop(), sender=parent, weak=False)

    def stop(self, parent: Any) -> None:
        """Not yet."""

    terminate = stop


def _routes(runtime: Runtime, tallies: JobTallies, worker: Any) -> Routes:
    examiner = Examiner(runtime, solo=worker.pool_cls.__module__.endswith(".solo"))
    report = Report(runtime, examiner, LoopWatch())
    registry = _registry(runtime, tallies, examiner, lambda: _pool_pids(worker.pool))

    return {
        "/health": lambda _: Reply.of(*report.health()),
        "/health/live": lambda _: Reply.of(*report.live()),
        "/health/ready": lambda _: Reply.of(*report.ready()),
        "/metrics": lambda accept: metrics_page(registry, accept),
    }


def metrics_page(registry: CollectorRegistry, accept: str) -> Reply:
    """The metrics in the format that the Accept header asks for."""
    try:
        encode, content_type = choose_encoder(accept)
    except Exception:  # of several kinds in the library, for a version that cannot be read
        return NOT_ACCEPTABLE
    return Reply(encode(registry), content_type)


def _pool_pids(pool: Any) -> Iterable[int]:
    """Processes of the pool, where it has some."""
    found: Iterable[int] = pool.info.get("processes", ())
    return found


def _registry(
    runtime: Runtime, tallies: JobTallies, examiner: Examiner, pool_pids: Callable[[], Iterable[int]]
) -> CollectorRegistry:
    """Not the library's default one: Flower, which imports the application, would publish that as its own."""
    registry = CollectorRegistry()
    fetcher = runtime.fetcher
    quick = runtime.redis_address.but(connect_timeout_seconds=REDIS_SECONDS, timeout_seconds=REDIS_SECONDS)
    ProcessCollector(registry=registry)
    registry.register(JobSeries(tallies, lambda: fetcher.in_flight.running))
    registry.register(PushSeries(runtime.pushes))
    registry.register(MoveSeries(runtime))
    registry.register(LimitSeries(connect(quick, runtime.follower), lambda: runtime.limiter))
    registry.register(WorkerSeries(runtime, examiner, pool_pids))
    registry.register(
        QueueSeries(
            connect(quick, runtime.follower),
            lambda: fetcher.order.names,
            lambda: examiner.examine().redis_answers,
        )
    )
    return registry
