"""A retry, and what Celery's tracer makes of it, told in a tenth of the time.

Celery copies every frame of the traceback with the tables of its code, and writes the traceback out, before
anybody has asked for either. That costs several times what Sidekiq needs for a whole failing job. Here the
places are noted, and written out for their reader. Observed retries (a receiver of ``task_retry``, an
``on_retry`` of the task) take Celery's own way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from traceback import FrameSummary, StackSummary, TracebackException
from types import CodeType, TracebackType
from typing import Any

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]
from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery.app import trace
from celery.exceptions import Reject, WorkerShutdown, WorkerTerminate

from bridge.broker.messages import DELIVERY_HEADER
from bridge.execution import failure_log, outcomes, returned
from bridge.fast_path import observers

Place = tuple[CodeType, int, int]
"""A frame's place: its code, the index of the instruction, the line."""


class RetryInfo:
    """Stands for billiard's ``ExceptionInfo`` of a retry. Only for pools within the process."""

    internal = False
    tb = None

    def __init__(self, error: BaseException) -> None:
        self.type = type(error)
        self.exception = error
        self._places = _take_places(error)

    @property
    def traceback(self) -> str:
        """As Python would write it, with what caused it."""
        told = TracebackException(self.type, self.exception, None)
        self._fill(told, self.exception)
        return "".join(told.format())

    @property
    def exc_info(self) -> tuple[type[BaseException], BaseException, None]:
        """As ``sys.exc_info()``, without the frames."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback

    def _fill(self, told: TracebackException, error: BaseException) -> None:
        waiting: list[tuple[TracebackException | None, BaseException | None]] = [(told, error)]
        while waiting:  # a chain of causes may be longer than Python's stack
            part, origin = waiting.pop()
            if part is not None and origin is not None:
                places = self._places.get(id(origin), [])
                part.stack = StackSummary.from_list([_summary(*place) for place in places])
                waiting += [(part.__cause__, origin.__cause__), (part.__context__, origin.__context__)]


class RunInfo(trace.TraceInfo):
    """Celery's trace info, but for unobserved retries."""

    def handle_retry(self, task: Any, req: Any, store_errors: bool = True, **kwargs: Any) -> Any:
        """Returns what the pool's callback gets as ``exc_info``."""
        if store_errors or signals.task_retry.receivers:
            return super().handle_retry(task, req, store_errors, **kwargs)
        name = trace.get_task_name(req, task.name)
        trace.info(trace.LOG_RETRY, {"id": req.id, "name": name, "exc": str(self.retval)})
        return RetryInfo(self.retval)


def install(app: Any, hostname: str) -> None:
    """Give the tasks of this application tracers that tell of retries in this way.

    Not where a library (Sentry, New Relic) has replaced the tracer: it may look for Celery's own.
    """
    if not observers.is_replaced(trace.build_tracer):
        for name, task in app.tasks.items():
            info = trace.TraceInfo if observers.overrides(task, "on_retry") else RunInfo
            task.__trace__ = trace.build_tracer(name, task, app.loader, hostname, Info=info, app=app)
    guard(app)


def guard(app: Any) -> None:
    """Let the tracers of this application raise nothing but what ends the worker.

    A hook of a task or a receiver of a signal may raise what Celery does not catch (SystemExit, MemoryError).
    It would leave the job in flight, or end a pool process. The solo pool would run the job without end.
    """
    for task in app.tasks.values():
        if task.__trace__ is not None:
            task.__trace__ = _guarded(task.__trace__)


def _guarded(tracer: Callable[..., Any]) -> Callable[..., Any]:
    def trace_task(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        try:
            told: trace.trace_ok_t = tracer(uuid, args, kwargs, request)
        except (WorkerShutdown, WorkerTerminate):
            raise
        except BaseException as error:
            if terminate_handler_fired():
                raise  # this pool process was told to end, and its parent settles the job
            failed = _decided(error, request)
            if failed is None and isinstance(error, Reject):
                # A hook behind the run raises it. Celery's pools take it for the task's own.
                failure_log.fault("jid=%s: a hook of the task rejects the job", uuid)
                info = trace.TraceInfo(states.REJECTED, error)
                return trace.trace_ok_t(ExceptionInfo(internal=True), info, 0.0, None)
            failure_log.fault("jid=%s could not be told of", uuid)
            failed = failed or outcomes.stand_in(error)
        else:
            if told.info is None and returned.has_any():
                return told._replace(retstr=_with_result(told.retstr, request))
            if told.info is None or told.info.state != states.FAILURE:
                return told
            failed = _decided(told.info.retval, request)
            if failed is None:
                return told
        return trace.trace_ok_t(_info_of(failed), trace.TraceInfo(states.FAILURE, failed), 0.0, None)

    return trace_task


def _decided(error: BaseException, request: Any) -> BaseException | None:
    """The error of the run, if a hook raised another one about it: the decision travels on the first."""
    delivery = request.get(DELIVERY_HEADER) if isinstance(request, Mapping) else None
    return None if delivery is None else outcomes.decided_before(error, delivery.token)


def _with_result(text: Any, request: Any) -> Any:
    """The text of a run, with the result of a tracked job in a pool process."""
    delivery = request.get(DELIVERY_HEADER) if isinstance(request, Mapping) else None
    return text if delivery is None else returned.with_result(text, delivery.token)


def _info_of(error: BaseException) -> ExceptionInfo:
    try:
        raise error
    except BaseException:
        return ExceptionInfo()


def _take_places(error: BaseException) -> dict[int, list[Place]]:
    """Of an error and what led to it, by identity. Takes their tracebacks away.

    A traceback holds the frames, and the tracer's frame holds the result with the error in it: a ring, which
    only the garbage collector would find, with all that the job had in its hands.
    """
    found: dict[int, list[Place]] = {}
    errors: list[BaseException | None] = [error]
    while errors:
        each = errors.pop()
        if each is not None and id(each) not in found:
            found[id(each)] = _places(each.__traceback__)
            each.__traceback__ = None
            errors += (each.__cause__, each.__context__)
    return found


def _places(step: TracebackType | None) -> list[Place]:
    found = []
    while step is not None:
        found.append((step.tb_frame.f_code, step.tb_lasti, step.tb_lineno))
        step = step.tb_next
    return found


def _summary(code: CodeType, instruction: int, line: int) -> FrameSummary:
    positions = next(itertools.islice(code.co_positions(), instruction // 2, None), (line, None, None, None))
    _, end_line, column, end_column = positions
    return FrameSummary(
        code.co_filename, line, code.co_name, end_lineno=end_line, colno=column, end_colno=end_column
    )
