"""Runs Ruby tasks on the consumer's thread, many at a time: each only waits for the sidecar.

Celery's tracer takes a quarter of the worker's time for a small job, and is there for what others may notice:
signals, errors, retries. So a plain request goes to the sidecar first. One that was done is done; of one that
failed the tracer sees the end. Any other is traced, with the sidecar's reply at hand. The tracer runs in a
greenlet, which parks wherever it must wait.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import greenlet

from bridge import event_loop
from bridge.broker.messages import RAISED_HEADER
from bridge.execution import failure_log, outcomes
from bridge.execution.call import Call, apply
from bridge.fast_path.request import LazyRequest
from bridge.sidecar.parking import Parkable
from bridge.sidecar.result import JobResult
from bridge.sidecar.stream_client import StreamingSidecar
from bridge.sidekiq.outcome.decision import Result


class RubyRuns:
    """Belongs to the thread and the greenlet that made it."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = greenlet.getcurrent()
        self._event_loop = event_loop.current()
        self.running = 0
        self._sent: deque[LazyRequest] = deque()
        """Jobs that have gone out, for ``note``."""

    def start(self, call: Call) -> None:
        """Begin a run with Celery's tracer. Returns at once, as ``begin`` does."""
        self.running += 1
        self.trace(call)

    def begin(self, request: LazyRequest) -> None:
        """Begin an unobserved run. Raises nothing."""
        self.running += 1
        run = _Run(self, request)
        try:
            if not request.may_begin():
                self.running -= 1
                return
            sidecar = self._app.bridge.sidecar
            if isinstance(sidecar, StreamingSidecar) and sidecar.begin(
                request.unit, run.done, run.failed, run.trace
            ):
                self._note_soon(request)
            else:
                request.begin()
                run.trace()
        except Exception:
            self.lose(request)

    def _note_soon(self, request: LazyRequest) -> None:
        # The job goes out first: its log line takes as long as a small job.
        if not self._sent:
            self._event_loop.soon.append(self.note)
        self._sent.append(request)

    def note(self) -> None:
        """Note that the sidecar has these jobs, before a reply is read: one that has not begun is given back.

        Raises nothing: a run goes on, and its reply settles it.
        """
        while self._sent:
            request = self._sent.popleft()
            try:
                if not request.acknowledged:
                    request.begin()
            except Exception:
                failure_log.fault("jid=%s runs in the sidecar, and that could not be noted", request.id)

    def trace(self, call: Call) -> None:
        """End a run by Celery's tracer."""
        Parkable(self._run, self._loop).switch(call)

    def lose(self, request: LazyRequest) -> None:
        # A fault of ours must cost neither the slot nor the job, nor the end of the worker.
        self.running -= 1
        request.lose()
        failure_log.fault("jid=%s could not be run to its end", request.id)

    def _run(self, call: Call) -> None:
        try:
            apply(call)
        finally:
            self.running -= 1


class _Run:
    """One unobserved run. The sidecar's reply calls one of the three."""

    __slots__ = ("_request", "_runs")

    def __init__(self, runs: RubyRuns, request: LazyRequest) -> None:
        self._runs = runs
        self._request = request

    def done(self, run_ms: float, result: Result | None = None) -> None:
        self._runs.note()
        self._runs.running -= 1
        if result is not None:
            self._request.reported(result)
        self._request.done(run_ms)

    def failed(self, result: JobResult) -> None:
        self._runs.note()
        error = outcomes.failure_of(result)
        if self._request.retried(error, result.duration_ms):
            self._runs.running -= 1
        else:
            self.trace(result.duration_ms, **{RAISED_HEADER: error})

    def trace(self, run_ms: float | None = None, **headers: Any) -> None:
        """Any other end: Celery's tracer goes on from the reply."""
        self._runs.note()
        try:
            call = self._request.call(run_ms, **headers)
        except Exception:
            self._runs.lose(self._request)
        else:
            self._runs.trace(call)
