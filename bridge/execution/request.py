"""The worker's parent records a decision about a run; then Celery acknowledges, and the ack settles."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import greenlet
from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]
from billiard.exceptions import WorkerLostError
from celery.exceptions import Ignore, Reject, Retry, Terminated, TimeLimitExceeded
from celery.worker import state
from celery.worker.request import Request

from bridge.broker.messages import DELIVERY_HEADER, RUBY_TASK, RULES_HEADER
from bridge.execution import async_exceptions, claimed_job, failure_log, outcomes, retries, task
from bridge.execution.pool_processes import signal_running
from bridge.execution.time_limits import LONGEST_SECONDS
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome.decision import Decision, Discard, Done, GiveBack
from bridge.sidekiq.outcome.failure import Failure
from bridge.sidekiq.outcome.notice import REVOKED
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.redact import scrub

UNKNOWN = GiveBack(unknown_outcome=True)


class SidekiqRequest(Request):
    """Celery's request, for a claimed job. Only documented methods are overridden; each calls its base."""

    app: Any

    _was_signalled = False
    runner: Any = None
    """The thread (by its identifier) or gevent greenlet that runs the job, where the pool has any."""

    @property
    def fetcher(self) -> Fetcher:
        """The holder of this process's jobs."""
        fetcher: Fetcher = self.app.bridge.fetcher
        return fetcher

    @property
    def delivery(self) -> Delivery:
        """The delivery this request was made for."""
        delivery: Delivery = self.request_dict[DELIVERY_HEADER]
        return delivery

    @property
    def native(self) -> bool:
        """Whether the job runs in Python."""
        return str(self.type) != RUBY_TASK  # the name is what Flower shows: the Ruby class

    @property
    def in_ruby_middleware(self) -> bool:
        """Whether the job's Python code runs inside Ruby's middleware."""
        return isinstance(self.task, task.SidekiqTask) and self.task.in_ruby_middleware

    @property
    def in_process(self) -> bool:
        """Whether it runs in a pool process."""
        return bool(self.app.bridge.pool_has_processes)

    @property
    def time_limits(self) -> tuple[float | None, float | None]:
        """Hard and soft, for the pool. Only Celery's prefork heeds them; a Ruby job ends in Ruby."""
        if not self.app.bridge.pool_has_processes:
            return None, None
        limits = self.app.bridge.cancellation.limits
        if not self.native:
            # Celery's own limits must not kill the process that waits for a Ruby job.
            return (LONGEST_SECONDS, LONGEST_SECONDS) if limits.default else (None, None)
        found = limits.of(SidekiqJob.parse(self.delivery.payload), self.task)
        # The sidecar ends it: Ruby decides about its failure.
        return LONGEST_SECONDS if self.in_ruby_middleware else found.hard, found.soft

    # -- performed

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A pool slot has begun to run the job."""
        self.runner = _runner()
        token = self.delivery.token
        self.fetcher.in_flight.started(token, time.time(), native=self.native)
        super().on_accepted(pid, time_accepted)  # type: ignore[arg-type]
        unit = self.fetcher.in_flight.held.get(token)
        if unit is not None:
            self.app.bridge.cancellation.watch(self, unit, self.task)

    # -- finished: Celery's on_success acknowledges, and QoS.ack settles the job as done

    # -- failed

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """The run ended with an exception: a retry, a failure, another decision, or a lost process."""
        error = _original(exc_info.exception)
        if isinstance(error, MemoryError):
            # Celery raises it again here, in the worker's parent: the job would stay in flight.
            error = exc_info.exception = outcomes.stand_in(error)
        decision = self._decision_for(error, lambda: exc_info.traceback)
        if decision is not None:
            self.fetcher.in_flight.decide(self.delivery.token, decision)
        if isinstance(error, outcomes.Settle) and error.outage is not None:
            self.app.bridge.note_outage(error.outage, rejected=error.rejected)
        if isinstance(error, outcomes.JobCancelled):
            # To Celery it is an ignored task, of which Flower would never hear again.
            self.send_event("task-revoked", terminated=True, signum=None, expired=False)
        try:
            return super().on_failure(exc_info, send_failed_event, return_ok)
        except Exception:
            # To tell of the failure was another one: the decision about the job is recorded.
            self.lose()
            failure_log.fault("jid=%s: its failure could not be told of", self.id)
            return None

    def on_retry(self, exc_info: Any) -> None:
        """The run is to be retried. Its traceback is written out for those only who would see it."""
        if self.app.bridge.context.listeners:
            super().on_retry(exc_info)
        elif self.task.acks_late:
            self.acknowledge()

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The hard time limit ended the run: a failure, and it spends an attempt."""
        if not soft:
            self._record_failure(outcomes.DeadlineExceeded.after(timeout))
        super().on_timeout(soft, timeout)

    def decision_after(self, error: BaseException) -> Decision:
        """The decision about the job when this error ends it."""
        carried = outcomes.decision_of(error, self.delivery.token)
        return self._native_decision(error) if carried is None else carried

    def _decision_for(self, error: BaseException, trace: Callable[[], str]) -> Decision | None:
        carried = outcomes.decision_of(error, self.delivery.token)
        if carried == UNKNOWN and self.app.bridge.cancellation.is_overdue(self.delivery.token):
            # Its time was up, and that is for us to say: an attempt is spent, whatever became of the run.
            return self._native_decision(
                outcomes.DeadlineExceeded("the job ran longer than its time limit"), trace
            )
        if carried is not None or self._is_decided:
            return carried
        if isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt)):
            # The pool process died under the job: how far the job got is unknown. A worker that ends has
            # ended it, and counts nothing.
            return GiveBack() if self.fetcher.leaving else UNKNOWN
        if isinstance(error, Ignore):
            return Done(ignored=True)
        if isinstance(error, (Reject, Terminated, Retry)):
            return None
        if isinstance(error, TimeLimitExceeded):
            error = outcomes.DeadlineExceeded.after(error.args[0])
        return self._native_decision(error, trace)

    @property
    def _is_decided(self) -> bool:
        """Whether the task has recorded a decision on the delivery, which it does within this process."""
        unit = self.fetcher.in_flight.held.get(self.delivery.token)
        return not self.in_process and unit is not None and unit.decision is not None

    def _record_failure(self, error: BaseException) -> None:
        self.fetcher.in_flight.decide(self.delivery.token, self._native_decision(error))

    def _native_decision(self, error: BaseException, trace: Callable[[], str] | None = None) -> Decision:
        """The rules applied here, where the pool side could not (a time limit, a lost decision)."""
        delivery = self.delivery
        job = claimed_job.job_of(self.app, delivery)
        failure = Failure.of(error, job, trace)
        return retries.decide(
            self.task,
            self.request_dict.get(RULES_HEADER) or self.app.bridge.dialect.rules,
            job,
            delivery.queue,
            failure,
            retries.of_task(self.task, error),
        )

    # -- ended before its own end

    def raise_inside(self, error: BaseException) -> bool:
        """Raise in the native task's coroutine, thread or greenlet.

        A pool process gets Celery's signal of a soft limit, and is killed the next time.
        """
        if self.in_process:
            self._signal_process()
            return False
        if self.app.bridge.coroutines.end(self.delivery.token, error):
            return True
        hidden = isinstance(error, Ignore)
        return async_exceptions.raise_in(self.runner, self.delivery.token, error, hidden=hidden)

    def _signal_process(self) -> None:
        number = signal.SIGKILL if self._was_signalled else signal.SIGUSR1
        self._was_signalled = True
        if self.worker_pid:
            signal_running(int(self.worker_pid), number)

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """A person ended this run: the job is discarded."""
        self.fetcher.in_flight.decide(self.delivery.token, Discard(REVOKED))
        super().terminate(pool, signal)

    # -- released

    def lose(self) -> None:
        """Let go of a run whose outcome is unknown, so that the settlement finds it out."""
        state.task_ready(self)
        if not self.acknowledged:
            self.acknowledged = True
            self.fetcher.settle(self.delivery.token, UNKNOWN)

    # -- what observers see

    def send_event(self, type: str, **fields: Any) -> Any:
        """An event for Flower and its like, with the job's arguments out of what an exception says."""
        context = self.app.bridge.context
        if "exception" in fields and context.listeners and not context.show_args:
            fields = {name: self._scrubbed(value) for name, value in fields.items()}
        if type == "task-started" and context.listeners:
            # Flower's page and columns of Celery's routing: which side runs the job, and its queue.
            fields = {**fields, "exchange": self._side, "routing_key": self.delivery.queue}
        return super().send_event(type, **fields)

    def info(self, safe: bool = False) -> Any:
        """What ``celery inspect active`` shows: the arguments as events show them, hidden or not."""
        return super().info(safe=True)

    @property
    def _side(self) -> str:
        return "python" if self.native else "ruby"

    def _scrubbed(self, value: Any) -> Any:
        return scrub(value, SidekiqJob.parse(self.delivery.payload).args) if isinstance(value, str) else value


def _runner() -> Any:
    current = greenlet.getcurrent()
    return current if hasattr(current, "kill") else threading.get_ident()


def _original(error: BaseException) -> BaseException:
    return error.exc if isinstance(error, ExceptionWithTraceback) else error
