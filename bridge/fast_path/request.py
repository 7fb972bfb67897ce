"""The request of an unobserved job: filled in on demand.

Celery's own takes as long to make as a small job to run, for what only events, signals and control commands
read. This one begins with the little that a run needs. Whatever else is asked of it (``inspect active``, a
failure, Flower) makes it Celery's in full.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import signals
from celery.app import trace
from celery.worker import state
from celery.worker.request import create_request_cls  # type: ignore[attr-defined]

from bridge.broker import messages
from bridge.broker.messages import RUBY_TASK
from bridge.execution.call import Call
from bridge.execution.request import SidekiqRequest
from bridge.execution.time_limits import HARD, SOFT
from bridge.fast_path import observers, on_demand
from bridge.results.encoding import encoded, shown_result
from bridge.sidekiq.fetch import unreadable
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Decision, Done, GiveBack, Result

RunContext = tuple[dict[str, Any], Sequence[Any], Mapping[str, Any]]
"""Fields of ``self.request``, positional and keyword arguments."""

_DONE = Done()


@on_demand.of_celery
class LazyRequest(SidekiqRequest):
    """Made by a class of :func:`request_class`, for the own pool only."""

    fill: Callable[[], None]
    """Celery's constructor."""
    _runtime: Any
    _task: Any
    _type: str
    _hostname: str
    _tracer: Any
    _needs_tracer: bool
    """Whether Celery's tracer ends each run that raised."""
    worker_pid: Any
    _is_read_late = False
    """Whether this slot has read large arguments."""
    _result: Result | None = None
    """The result of a tracked job that has run."""
    is_full = False
    _run_ms: float | None = None
    _run_context: RunContext | None = None

    def __init__(self, unit: UnitOfWork, channel: Any) -> None:
        # Not Celery's: that is what ``fill`` does.
        self.unit = unit
        self.channel = channel
        self.id = unit.job.jid or unit.id
        self.name = unit.job.shown_class  # type: ignore[misc]

    @property
    def delivery(self) -> Delivery:
        """The delivery this request was made for."""
        return self.unit.delivery

    def may_begin(self) -> bool:
        """Whether a slot may run it now.

        False where the job runs elsewhere: it was given back before a slot was free, or another worker has
        taken it over. Or where its arguments, which are read now if they are large, are malformed.
        """
        runtime, delivery = self._runtime, self.unit.delivery
        if delivery.token not in runtime.fetcher.in_flight.held or not runtime.lease.holds(delivery.identity):
            self._end(GiveBack())
            return False
        if self.native and self.unit.job.is_outline:
            self._is_read_late = True
            if burial := unreadable.read_whole(self.unit):
                self._end(burial)
                return False
        return True

    def begin(self) -> None:
        """A slot has begun to run it: as ``on_accepted``, which would ask for more."""
        runtime, token = self._runtime, self.unit.delivery.token
        now = time.time()
        self.time_start = now
        if self.native:
            self.runner = threading.get_ident()
        state.requests[self.id] = self
        state.active_requests.add(self)
        state.total_count[self.name] += 1
        state.all_total_count[0] += 1
        runtime.fetcher.in_flight.started(token, now, native=self.native)
        fields, task = self.unit.job.fields, self._task
        may_have_limits = (  # asked for each job, so without a call
            runtime.cancellation.limits.hold_for_all
            or HARD in fields
            or SOFT in fields
            or (self.native and (task.time_limit is not None or task.soft_time_limit is not None))
        )
        if may_have_limits:
            runtime.cancellation.watch(self, self.unit, task)
        if runtime.context.listeners:
            self.send_event("task-started")

    def done(self, run_ms: float | None = None) -> None:
        """Settle a run that ended without an error; ``run_ms``: how long it took, as the sidecar says."""
        if self._is_read_late:
            # Here, while they are in the caches: to free many at a settlement takes twice as long.
            self._run_context = None
            self.unit.job.forget_arguments()
        result = self._result
        self._end(_DONE if result is None else Done(result), run_ms)
        if self._runtime.context.listeners:
            shown = "None" if result is None else shown_result(result)
            self.send_event("task-succeeded", result=shown, runtime=self.unit.run_seconds)

    def returned(self, value: Any) -> None:
        """The code of a tracked job has returned this value."""
        self._result = encoded(value, self.id)

    def reported(self, result: Result) -> None:
        """The sidecar has reported this result of a tracked job."""
        self._result = result

    def retried(self, error: BaseException, run_ms: float | None = None) -> bool:
        """Settle a run that raised, where it is to be retried and no observer would miss Celery's tracer.

        A native task's context is the current one. False: the tracer is to end the run.
        """
        task, unit = self._task, self.unit
        if self._needs_tracer or signals.task_retry.receivers or self._runtime.context.listeners:
            return False
        try:
            ending = task.ending_of(unit.delivery, unit.job, error)
            if ending is None or not ending.is_retry:
                return False
            task.record(unit.delivery, ending)
        except BaseException:  # of the error itself: the tracer finds another end
            return False
        self._end(ending.decision, run_ms)
        return True

    def forget(self) -> None:
        """Celery's control commands find it no more."""
        state.requests.pop(self.id, None)
        state.active_requests.discard(self)

    def _end(self, decision: Decision, run_ms: float | None = None) -> None:
        self.forget()
        if not self.acknowledged:
            self.acknowledged = True
            self._runtime.fetcher.settle(self.unit.delivery.token, decision, run_ms)

    def acknowledge(self) -> None:
        """Settle by the recorded decision. Celery's own goes through kombu to the same end."""
        self._end(_DONE if self.unit.started_at is not None else GiveBack(), self._run_ms)

    def context(self) -> RunContext:
        """What ``self.request`` of a task shows, and its arguments. Made once."""
        if self._run_context is None:
            self._run_context = self._make_context()
        return self._run_context

    def _make_context(self) -> RunContext:
        unit = self.unit
        args, kwargs = unit.job.native_arguments() if self.native else messages.NO_ARGS
        fields = messages.headers_for(
            unit, self._type, self.id, self.name, show_args=self._runtime.context.show_args
        )
        fields[messages.RULES_HEADER] = self._runtime.dialect.rules
        fields["correlation_id"] = self.id
        fields["hostname"] = self._hostname
        fields["properties"] = {"priority": None, "correlation_id": self.id}
        fields["delivery_info"] = {
            "exchange": "",
            "routing_key": unit.delivery.queue,
            "priority": None,
            "redelivered": False,
        }
        return fields, args, kwargs

    def call(self, run_ms: float | None = None, **more: Any) -> Call:
        """The run as Celery asks its pools for it, with its tracer; begun already. ``more`` headers.

        ``run_ms``: how long the run took, where it has ended and the sidecar says so.
        """
        self._run_ms = run_ms
        fields, args, kwargs = self.context()
        body = (args, kwargs, messages.EMBED)
        request = {**fields, **more}
        return Call(self._tracer, (self._type, self.id, request, body, None, None), {}, self.on_success, None)


def request_class(consumer: Any, task: Any) -> type[LazyRequest]:
    """Make the class for the requests of one task; it holds the values that all of them share."""
    app = consumer.app
    runtime = app.bridge
    celerys: type = create_request_cls(
        LazyRequest, task, consumer.pool, consumer.hostname, consumer.event_dispatcher, app=app
    )

    def fill_in(request: LazyRequest) -> None:
        message: Any = request.channel.message_for(request.unit, task.name)
        SidekiqRequest.__init__(
            request,
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            hostname=consumer.hostname,
            eventer=consumer.event_dispatcher,
            app=app,
            connection_errors=consumer.connection_errors,
            task=task,
            body=message.body,
            headers=message.headers,
            utc=True,
        )

    constants = {
        "fill": fill_in,
        "_runtime": runtime,
        "_tracer": staticmethod(trace.fast_trace_task if app.use_fast_trace_task else trace.trace_task_ret),
        "_app": app,
        "_task": task,
        "task": task,  # Celery's is a property
        "_type": task.name,
        "_needs_tracer": observers.need_tracer(task),
        "_eventer": consumer.event_dispatcher,
        "_hostname": consumer.hostname,
        "native": task.name != RUBY_TASK,
        "worker_pid": on_demand.FromStart(os.getpid()),
        "in_process": False,
        "in_ruby_middleware": False,
    }
    return type("LazyRequest", (celerys,), constants)
