"""OpenTelemetry spans of jobs. Loaded only where ``BRIDGE_TRACING`` asks for them (extra ``otel``).

A job's span is a consumer's: it begins and ends where the job runs, continues (``child``) or links to
(``link``) the trace in the job's payload, and its context goes on to the sidecar. Errors are named by class
only: a message may hold arguments. What OTEL_* variables say is read by the library itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from celery import signals
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from bridge import __version__
from bridge.broker.messages import DELIVERY_HEADER
from bridge.execution.outcomes import RubyError, Settle
from bridge.monitoring.logs import job_lines
from bridge.monitoring.logs.formats import TRACE_ATTRIBUTE
from bridge.sidecar import protocol
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.payload import trace_context
from bridge.sidekiq.payload.job import SidekiqJob

SPAN_ATTRIBUTE = "bridge_span"
SERVICE = "sidekiq-bridge"

_wanted_trace_id: ContextVar[int | None] = ContextVar("bridge_trace_id", default=None)


class JobIds(RandomIdGenerator):
    """Gives a trace that begins with a job an id made from its jid.

    So the line that the worker's parent writes about the job names the trace that a pool process began.
    """

    def generate_trace_id(self) -> int:
        """That of the job at hand, else a random one."""
        return _wanted_trace_id.get() or super().generate_trace_id()


class Tracing:
    """Begins and ends the spans; ``links`` says that a job's trace is its own."""

    def __init__(self, *, links: bool, provider: trace.TracerProvider | None = None) -> None:
        self._links = links
        self._given = provider
        self._provider: trace.TracerProvider | None = None
        self._pid = 0

    def install(self) -> None:
        """Listen to this process's tasks, and be asked for what goes to the sidecar."""
        signals.task_prerun.connect(self._begin, weak=False)
        signals.task_retry.connect(self._retried, weak=False)
        signals.task_failure.connect(self._failed, weak=False)
        signals.task_postrun.connect(self._end, weak=False)
        signals.worker_process_shutdown.connect(self._flush, weak=False)
        signals.worker_shutdown.connect(self._flush, weak=False)
        protocol.attach_trace(_current)
        job_lines.attach_trace(self.trace_of)

    def trace_of(self, job: SidekiqJob) -> str | None:
        """The trace id of a job's span."""
        pushed_in = None if self._links else trace_context.trace_id(job.fields)
        return pushed_in or (f"{_own_trace_id(job):032x}" if self._is_ours else None)

    # -- a task's life, in the thread, greenlet or process that runs it

    def _begin(self, task: Any = None, **_: Any) -> None:
        delivery = getattr(task.request, DELIVERY_HEADER, None)
        if not isinstance(delivery, Delivery):
            return
        job = SidekiqJob.parse(delivery.payload)
        span = self._start(job, delivery)
        token = context.attach(trace.set_span_in_context(span))
        setattr(task.request, SPAN_ATTRIBUTE, (span, token))
        found = {"trace_id": f"{span.get_span_context().trace_id:032x}"}
        if correlation := trace_context.correlation_id(job.fields):
            found["correlation_id"] = correlation
        setattr(task.request, TRACE_ATTRIBUTE, found)

    def _start(self, job: SidekiqJob, delivery: Delivery) -> Span:
        pushed = propagate.extract(trace_context.trace_headers(job.fields), context.Context())
        origin = trace.get_current_span(pushed).get_span_context()
        links = [Link(origin)] if self._links and origin.is_valid else []
        asked = _wanted_trace_id.set(_own_trace_id(job))
        try:
            return self._tracer.start_span(
                f"{delivery.queue} process",
                context.Context() if self._links else pushed,
                kind=SpanKind.CONSUMER,
                attributes=_attributes(job, delivery),
                links=links,
            )
        finally:
            _wanted_trace_id.reset(asked)

    def _retried(self, sender: Any = None, reason: Any = None, **_: Any) -> None:
        _mark(sender, getattr(reason, "exc", None))

    def _failed(self, sender: Any = None, exception: BaseException | None = None, **_: Any) -> None:
        _mark(sender, exception)

    def _end(self, task: Any = None, retval: Any = None, **_: Any) -> None:
        found = getattr(task.request, SPAN_ATTRIBUTE, None)
        if found is None:
            return
        span, token = found
        if isinstance(retval, Settle):
            span.set_attribute("bridge.decision", type(retval.sidekiq_decision).__name__)
        context.detach(token)
        span.end()

    # -- the provider

    @property
    def _tracer(self) -> trace.Tracer:
        """Made in the process that uses it: the exporter's thread does not survive a fork."""
        if self._provider is None or self._pid != os.getpid():
            self._provider, self._pid = self._given or _provider(), os.getpid()
        return self._provider.get_tracer("bridge", __version__)

    @property
    def _is_ours(self) -> bool:
        return self._given is None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)

    def _flush(self, **_: Any) -> None:
        if self._pid == os.getpid() and isinstance(self._provider, TracerProvider):
            self._provider.force_flush(5000)


def inject() -> dict[str, str]:
    """Fields for the payload of a job that is pushed now."""
    return dict(_current())


def _current() -> Mapping[str, str]:
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {name: carrier[name] for name in trace_context.TRACE_FIELDS if name in carrier}


def _mark(task: Any, error: BaseException | None) -> None:
    found = getattr(task.request, SPAN_ATTRIBUTE, None)
    if found is None or error is None:
        return
    name = error.result.error_class if isinstance(error, RubyError) else type(error).__qualname__
    found[0].set_attribute("error.type", name)
    found[0].set_status(Status(StatusCode.ERROR, name))


def _attributes(job: SidekiqJob, delivery: Delivery) -> dict[str, Any]:
    """The names that OpenTelemetry's instrumentation of Sidekiq uses."""
    return {
        "messaging.system": "sidekiq",
        "messaging.operation": "process",
        "messaging.destination": delivery.queue,
        "messaging.message_id": job.jid or "",
        "messaging.sidekiq.job_class": job.native_class or "",
        "messaging.sidekiq.retry_count": job.retry_count if job.retry_count is not None else -1,
    }


def _own_trace_id(job: SidekiqJob) -> int:
    return int.from_bytes(hashlib.sha256((job.jid or "").encode()).digest()[:16], "big") or 1


def _provider() -> trace.TracerProvider:
    """The process's own provider, if opentelemetry-instrument or the user's module has set one."""
    present = trace.get_tracer_provider()
    if not isinstance(present, trace.ProxyTracerProvider):
        return present
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    made = TracerProvider(resource=resource, id_generator=JobIds())
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made
