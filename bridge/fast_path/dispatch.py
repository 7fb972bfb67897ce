"""The fast path of an unobserved job, from its claim to the pool.

Celery makes a message of it, a request of that, sends signals and events, and wraps the run in its tracer:
more than half the cost of a small job, all of it for observers. The own pool begins an unobserved job at
once, with a request that is filled in on demand. The dispatcher looks for observers at each job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery.worker import state

from bridge.broker.messages import RUBY_TASK
from bridge.execution.task import SidekiqTask
from bridge.fast_path import observers
from bridge.fast_path.request import LazyRequest, request_class
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork

STRATEGY = "celery.worker.strategy:default"


@dataclass(frozen=True, slots=True)
class Way:
    """How the jobs of one task begin."""

    is_observed: Callable[[], bool]
    make: type[LazyRequest]
    begin: Callable[[LazyRequest], None]
    is_threaded: bool
    """Whether a thread of the pool runs them."""


class FastDispatch:
    """Takes jobs for one consumer on the own pool; belongs to the consumer's thread."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._runtime = consumer.app.bridge
        self._tasks = consumer.app.tasks
        self._context = self._runtime.context
        self._ways: dict[str | None, Way | None] = {}
        self._moving_ways: dict[str, Way | None] = {}
        """Of classes that move: some of their jobs go another way."""
        self._runtime.routing.attach(self._forget_ways)
        self._runtime.fetcher.in_flight.reader.leave_arguments()

    def __call__(self, unit: UnitOfWork, channel: Any, is_deputy: bool = False) -> bool:
        """Begin this job; False where it must go Celery's way.

        ``is_deputy``: a thread of the pool calls this in the consumer's turn. It begins no other jobs than
        those that such threads run.
        """
        # A class without a task of its name is Ruby's. For a task that was met before, the way is known.
        name = unit.job.native_class
        way = self._ways.get(name if name in self._tasks else RUBY_TASK) or self._way_of(unit)
        if way is None or self._context.listeners or way.is_observed() or self._consumer.on_task_message:
            return False
        if is_deputy and not way.is_threaded:
            return False
        request = way.make(unit, channel)
        if request.id in state.revoked:
            return False
        # As Celery reserves it: a revoke must find it also while it waits for a thread.
        state.requests[request.id] = request
        try:
            way.begin(request)
        except BaseException:
            request.forget()
            raise
        return True

    def _way_of(self, unit: UnitOfWork) -> Way | None:
        name = self._runtime.routing.task_of(unit.job, unit.delivery.recovered)
        if name in self._ways:
            return self._ways[name]
        if not self._runtime.routing.is_moving(name):
            return self._find(name)
        if name not in self._moving_ways:
            self._moving_ways[name] = self._made(name)
        return self._moving_ways[name]

    def _forget_ways(self) -> None:
        # A class that moves now must not be among those whose jobs all go one way.
        self._ways.clear()

    def _find(self, name: str) -> Way | None:
        way = self._ways[name] = self._made(name)
        if self._runtime.routing.is_moving(name):  # another thread has begun a move meanwhile
            self._forget_ways()
        return way

    def _made(self, name: str) -> Way | None:
        task = self._tasks[name]
        is_ours = (
            isinstance(task, SidekiqTask)
            and task.Request == SidekiqTask.Request
            and task.Strategy == STRATEGY
            and not observers.overrides(task, "start_strategy")
            and not task.in_ruby_middleware
        )
        if not is_ours:
            return None
        pool = self._consumer.pool
        made = request_class(self._consumer, task)
        return Way(observers.observation(task), made, pool.runner(task), pool.has_threads_for(task))


def of(consumer: Any) -> FastDispatch | None:
    """The fast path for a consumer; none where another pool runs the jobs."""
    return FastDispatch(consumer) if hasattr(consumer.pool, "runner") else None
