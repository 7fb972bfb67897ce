"""The end of a claimed payload that is not a job: it is buried, as Sidekiq buries malformed JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from bridge import errors
from bridge.sidekiq.fetch.job_reader import JobReader
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Decision
from bridge.sidekiq.outcome.notice import malformed
from bridge.sidekiq.payload.invalid_entry import invalid_entry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.timestamps import Timestamps

logger = logging.getLogger(__name__)


def burial(delivery: Delivery, error: errors.PayloadError, timestamps: Timestamps) -> Bury:
    """The decision about it; ``timestamps`` is the form of times in an entry that has to be made."""
    logger.error("buried a payload that is not a job, from queue %s: %s", delivery.queue, error)
    payload = delivery.payload
    if isinstance(error, errors.InvalidPayload):
        payload = invalid_entry(payload, delivery.queue, str(error), time.time(), timestamps)
    return Bury(payload, ran=False, notice=malformed(str(error)))


def read_whole(unit: UnitOfWork) -> Bury | None:
    """Read the arguments of a large job. Malformed ones: the decision about it, and it has no fields now."""
    try:
        unit.job.read_whole()
    except errors.MalformedPayload as error:
        unit.job = SidekiqJob.unreadable(unit.delivery.payload)
        return burial(unit.delivery, error, Timestamps.SECONDS)
    return None


def reading(reader: JobReader, settle: Callable[[int, Decision], None]) -> Callable[[UnitOfWork], bool]:
    """A function that reads what is left of a large native job, for its observers.

    It returns False for a job whose arguments are malformed: that one is settled.
    """

    def is_readable(unit: UnitOfWork) -> bool:
        burial = read_whole(unit) if unit.job.is_outline and reader.needs_arguments(unit.job) else None
        if burial is not None:
            settle(unit.delivery.token, burial)
        return burial is None

    return is_readable
