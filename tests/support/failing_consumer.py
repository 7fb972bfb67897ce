"""A user's module whose consumer meets an error that it cannot recover from, when a test wants it."""

from __future__ import annotations

import os

from bridge.worker.consumer import JobConsumer
from tests.support.native_tasks import app

__all__ = ["app"]


class FailingConsumer(JobConsumer):
    def perform_pending_operations(self) -> None:
        """Celery calls this in each round of its loop, and once more when the worker has ended."""
        super().perform_pending_operations()
        if os.path.exists(os.path.join(os.path.dirname(os.environ["TEST_LEDGER_HOST"]), "gate-failure")):
            raise LookupError("a consumer that breaks")


app.conf.worker_consumer = FailingConsumer
