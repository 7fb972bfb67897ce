"""Celery's task events: sent in batches, and only while a client listens.

Three PUBLISHes for each job would cost more than the job. Celery's receivers (Flower, exporters, ``celery
events``) understand
lists of events, and PUBLISH tells how many received it: the worker's own heartbeat event, every two seconds,
finds out whether anybody does.
"""

from __future__ import annotations

from typing import Any, cast

from celery.app.events import Events
from celery.events import EventDispatcher

BATCH = 100


class BatchingDispatcher(EventDispatcher):
    """Buffers task events until there are many, or ``flush`` is called (twice a second, by the heartbeat)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(buffer_group=frozenset(["task"]), buffer_limit=BATCH, on_send_buffered=None)
        super().__init__(*args, **kwargs)

    def send(self, type: str, *args: Any, **fields: Any) -> Any:
        """Send an event; not of a task without a listener, and none with remote control off."""
        bridge = cast(Any, self.app).bridge
        if type.startswith("task-") and not bridge.context.listeners:
            return None
        if not bridge.settings.remote_control:
            return None  # this worker's Redis user may not even be allowed to publish
        return super().send(type, *args, **fields)


class BridgeEvents(Events):
    """Celery's events, sent by the batching dispatcher."""

    dispatcher_cls = "bridge.worker.events:BatchingDispatcher"
