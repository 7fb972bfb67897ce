"""An end without a signal: an error that the consumer cannot recover from."""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps, signals
from celery.platforms import EX_FAILURE
from celery.worker import state

logger = logging.getLogger(__name__)


class Ending(bootsteps.StartStopStep):
    """Tells the lifecycle of such an end. Celery would wait for the running jobs without a limit.

    A step of the worker: a consumer that fails while it connects again is asked neither to stop nor to close.
    """

    def close(self, worker: Any) -> None:
        """The worker ends, for whatever reason; before its pool does."""
        if state.should_stop is None:
            status = worker.exitcode or EX_FAILURE
            state.should_stop = status  # type: ignore[assignment]
            logger.critical("this worker ends over an error; its running jobs end as after TERM")
            signals.worker_shutting_down.send(sender=worker.hostname, sig="TERM", how="Warm", exitcode=status)
