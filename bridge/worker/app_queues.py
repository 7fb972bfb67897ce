"""Queues that the app or its gems register as they start: a capsule, sidekiq_alive's own queue."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from bridge.sidecar.health import AppQueue, Health
from bridge.sidekiq.fetch.queues import Capsule
from bridge.sidekiq.payload import queue_names

if TYPE_CHECKING:
    from bridge.runtime import Runtime

logger = logging.getLogger(__name__)


class AppQueues:
    """Takes jobs from the queues that sidecars report, beside those of the settings.

    ``-Q`` (and ``-X``) name all queues of a worker, so such a worker takes no others. Sidekiq's own process
    has its command line first, too.
    """

    def __init__(self, runtime: Runtime, consumer: Any) -> None:
        self._runtime = runtime
        self._consumer = consumer
        self._known: set[str] = set()

    def learn(self, health: Health) -> None:
        """Take jobs from what is new in this answer. May be called by any thread."""
        for queue in health.queues:
            if queue.name not in self._known:
                self._known.add(queue.name)
                self._heed_capsule(queue)
                self._take_over(queue)

    def _heed_capsule(self, queue: AppQueue) -> None:
        """Keep the limit of the app's capsule. A queue ``ahead`` has none: its job keeps the pod alive."""
        if queue.concurrency and not queue.ahead:
            name = queue.capsule or queue.name
            self._runtime.capsules.learn(Capsule(name, frozenset([queue.name]), queue.concurrency))
            self._runtime.fetcher.rooms.add(self._runtime.capsules)

    def _take_over(self, queue: AppQueue) -> None:
        queues = self._consumer.app.amqp.queues
        if queue.name in queues.consume_from:
            return
        if not queue_names.QUEUE_NAME.fullmatch(queue.name):
            logger.warning(
                "the app registers the queue %r: no worker can serve a queue of that name", queue.name
            )
        elif _are_pinned(queues):
            logger.warning(
                "the app registers the queue %s, which -Q does not name: this worker takes no jobs from it",
                queue.name,
            )
        else:
            self._serve(queue)

    def _serve(self, queue: AppQueue) -> None:
        if queue.ahead:
            self._runtime.context.ahead.add(queue.name)
        capsule = f" (capsule {queue.capsule}, {queue.concurrency} at once)" if queue.capsule else ""
        logger.info("the app registers the queue %s%s: this worker takes its jobs too", queue.name, capsule)
        if self._consumer.task_consumer is None:
            self._consumer.app.amqp.queues.select_add(queue.name)
            return
        self._consumer.call_soon(self._consumer.add_task_queue, queue.name)
        self._runtime.fetcher.wake()


def _are_pinned(queues: Any) -> bool:
    """Whether -Q or -X chose the queues of this worker; kombu keeps no public word for it."""
    return queues._consume_from is not None
