"""Celery's consumer, with a shorter way from a claimed job to its task."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu.exceptions import ContentDisallowed, DecodeError

from bridge.broker.messages import JobMessage
from bridge.execution.request import SidekiqRequest
from bridge.fast_path import dispatch, retry_tracer
from bridge.worker import garbage
from bridge.worker.rate_limits import RateLimits

logger = logging.getLogger(__name__)


class JobConsumer(Consumer):
    """The consumer of a bridge worker (setting ``worker_consumer``).

    Celery wraps the ack and the reject of each message into promises, which defer them under an event loop
    and give prefetch back after a restart (``worker_enable_prefetch_count_reduction``, off). There is no
    event loop here, and they cost 13 us a job.
    """

    class Blueprint(Consumer.Blueprint):  # type: ignore[valid-type, misc]
        """Starts the steps in the same order each time: by their requirements, and else by their names."""

        def claim_steps(self) -> dict[str, Any]:
            """All steps, by name. Celery has a set of them."""
            return dict(sorted(super().claim_steps().items()))

    strategies: Any
    on_task_message: Any
    app: Any
    hostname: str
    task_buckets: dict[str, Any]

    def __init__(self, on_task_request: Callable[[Any], Any], *args: Any, **kwargs: Any) -> None:
        def begin(request: Any) -> None:
            if isinstance(request, SidekiqRequest):
                on_task_request(request)
            else:
                _refuse(request)

        super().__init__(begin, *args, **kwargs)

    def on_ready(self) -> None:
        """Begin. The garbage collector need not look again at the objects that were loaded until now."""
        super().on_ready()
        if (short := dispatch.of(self)) is not None:
            self.app.bridge.context.attach(short)
        garbage.set_aside(is_restart=self.restart_count > 0)

    def _limit_task(self, request: Any, bucket: Any, tokens: int) -> None:
        self._rate_limits.hold(request, bucket, tokens)

    def reset_rate_limits(self) -> None:
        """Make new buckets: at the start, and when a control command changes a limit."""
        before = dict(self.task_buckets)
        super().reset_rate_limits()
        for name, bucket in before.items():
            if bucket is not None:
                self._rate_limits.move(bucket, self.task_buckets[name])

    @cached_property
    def _rate_limits(self) -> RateLimits:
        return RateLimits(self)

    def update_strategies(self) -> None:
        """Make the ways from a message to its task, and the tracers."""
        super().update_strategies()
        retry_tracer.install(self.app, self.hostname)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """The function that is called with each message."""
        celerys: Callable[[Any], Any] = super().create_task_handler(*args, **kwargs)
        strategies, callbacks = self.strategies, self.on_task_message

        def on_task_received(message: Any) -> Any:
            strategy = None
            if isinstance(message, JobMessage):
                name = message.headers["task"]
                strategy = strategies.get(name) or self._late_strategy(name)
            if strategy is None:
                return celerys(message)  # no job, or no task for it
            try:
                strategy(message, None, message.ack_log_error, message.reject_log_error, callbacks)
            except (InvalidTaskError, ContentDisallowed, DecodeError) as error:
                self.on_invalid_task(None, message, error)

        return on_task_received

    def _late_strategy(self, name: str) -> Any:
        """The way to a task that a running worker has registered; None without such a task.

        Celery would reject the job as unknown, again and again.
        """
        if name in self.app.tasks:
            self.update_strategies()
        return self.strategies.get(name)


def _refuse(request: Any) -> None:
    """Bury a job whose request, made by a strategy of the user's own, settles nothing: it ran without end."""
    logger.error(
        "jid=%s goes to dead: Strategy of the task %s makes a request that settles no job. "
        "Make it with symbol_by_name(task.Request), as celery.worker.strategy.default does",
        request.id,
        request.task.name,
    )
    state.task_ready(request)
    request.reject(requeue=False)
