"""Hands a job to the sidecar. An outage ends in a decision that costs the job nothing but a delay."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.exceptions import Ignore, SoftTimeLimitExceeded

from bridge import errors
from bridge.execution import claimed_job
from bridge.execution.outcomes import Settle, failure_of
from bridge.sidecar.result import JobResult, Status
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome import notice as notices
from bridge.sidekiq.outcome.decision import Bury, GiveBack, Interrupt
from bridge.sidekiq.payload.job import SidekiqJob

logger = logging.getLogger(__name__)


def hand_over(app: Any, delivery: Delivery, execute: Callable[[Delivery], JobResult]) -> JobResult:
    """Ask the sidecar, and say in a decision what an outage means for the job.

    Raises:
        Settle: the job was not run to its end, and no attempt is spent.
    """
    if not app.bridge.sidecar.has_sent(delivery):
        # The lease says whether a run may begin. Ruby's report counts, also in an outage of Redis.
        claimed_job.require_lease(app, delivery)
    try:
        return execute(delivery)
    except errors.SidecarRejected as error:
        raise Settle(GiveBack(), outage=str(error), rejected=True) from error
    except errors.SidecarUnavailable as error:
        # A full sidecar does not open the breaker: the other slots go on.
        outage = None if error.retry_after_seconds else str(error)
        raise Settle(GiveBack(may_run=error.may_run), outage=outage) from error
    except errors.OutcomeUnknown as error:
        decision = GiveBack(unknown_outcome=True)
        raise Settle(decision, outage=str(error), rejected=error.rejected) from error
    except errors.JobSuperseded as error:
        raise Settle(GiveBack()) from error
    except errors.JobRefused as error:
        raise Settle(_buried(delivery, error)) from error
    except errors.MalformedPayload as error:
        # The claim has not read the arguments of a large job, see `outline`. The sidecar runs no such job.
        buried = Bury(delivery.payload, ran=False, notice=notices.malformed(str(error)))
        raise Settle(buried) from error
    except (Ignore, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        # A fault of ours, not of the job: whether it ran is not known, and no attempt is spent.
        logger.exception("the sidecar's client failed")
        raise Settle(GiveBack(unknown_outcome=True)) from error


def conclude(result: JobResult) -> None:
    """End this run as its outcome says: finished, failed or released."""
    if result.status is Status.FAILED:
        raise failure_of(result)
    if result.status is Status.INTERRUPTED:
        raise Settle(Interrupt(result.payload))
    if result.status is Status.POSTPONED:
        raise Settle(result.postpone)
    if result.status is Status.SHUTDOWN:
        # A job that stops by itself each time would run without end: the third time it is buried.
        # No Ruby job is claimed until a probe finds a sidecar: it would be sent into closing streams.
        outage = "the sidecar goes down" if result.was_last else None
        raise Settle(GiveBack(unknown_outcome=not result.asked), outage=outage)


def _buried(delivery: Delivery, error: errors.JobRefused) -> Bury:
    if error.malformed:
        return Bury(delivery.payload, ran=False, notice=notices.malformed(str(error)))
    told = notices.refused("Bridge::JobRefused", str(error))
    job = SidekiqJob.parse(delivery.payload)
    return Bury(job.with_fields(job.entry_fields(told.fields)), ran=False, notice=told)
