"""Names what a worker's flags and the queues of ``task_queues`` ask for in vain."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger(__name__)

#: Arguments of a ``kombu.Queue`` that a server of AMQP heeds.
QUEUE_ARGUMENTS = (
    *("queue_arguments", "binding_arguments", "consumer_arguments", "expires", "message_ttl", "max_length"),
    *("max_length_bytes", "max_priority", "no_ack", "exclusive", "auto_delete"),
)


def warn(instance: Any, **_: Any) -> None:
    """Log a sentence for each. Celery calls this once the log of a worker is set up."""
    if hasattr(instance.app, "bridge"):
        for sentence in (*of_flags(instance), *of_queues(instance.app)):
            logger.warning("%s", sentence)


def of_flags(worker: Any) -> Iterator[str]:
    """The sentence about ``-S`` of this worker. One about the setting is with the other settings."""
    path = worker.statedb
    if path and path != worker.app.conf.worker_state_db:
        yield (
            f"--statedb={path} has no effect: a revoke removes the waiting job at once, and no worker has a "
            "list of revoked jobs"
        )


def of_queues(app: Any) -> Iterator[str]:
    """A sentence for each declared queue with arguments for a server of AMQP."""
    for name, queue in app.amqp.queues.declared.items():
        asked = [argument for argument in QUEUE_ARGUMENTS if getattr(queue, argument, None)]
        if asked:
            verb = "has" if len(asked) == 1 else "have"
            yield (
                f"the queue {name} in task_queues: {', '.join(asked)} {verb} no effect, because Sidekiq's "
                f"queues are lists. Write Queue({name!r})"
            )
