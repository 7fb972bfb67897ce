"""Runs Ruby tasks on the consumer's thread, many at a time: each only waits for the sidecar.

Celery's tracer takes a quarter of the worker's time for a small job, and is there for what others may notice:
signals, errors, retries. So a plain request goes to the sidecar first. One that was done is done; of one that
failed the tracer sees the end. Any other is traced, with the sidecar's reply at hand. The tracer runs in a
greenlet, which parks wherever it must wait.
"""

from __future__ import annotations

import functools
import time
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

    def start(self, call: Call) -> None:
        """Begin a run with Celery's tracer. Returns at once, as ``begin`` does."""
        self.running += 1
        Parkable(self._run, self._loop).switch(call)

    def begin(self, request: LazyRequest) -> None:
        """Begin an unobserved run. Raises nothing."""
        self.running += 1
        try:
            self._begin(request)
        except Exception:
            self._lose(request)

    def _begin(self, request: LazyRequest) -> None:
        began = time.monotonic()
        if not request.may_begin():
            self.running -= 1
            return
        sidecar = self._app.bridge.sidecar

        def done(run_ms: float, result: Result | None = None) -> None:
            self.running -= 1
            if result is not None:
                request.reported(result)
            request.done(time.monotonic() - began, run_ms)

        def failed(result: JobResult) -> None:
            error = outcomes.failure_of(result)
            if request.retried(error, result.duration_ms):
                self.running -= 1
            else:
                trace(result.duration_ms, **{RAISED_HEADER: error})

        def trace(run_ms: float | None = None, **headers: Any) -> None:
            try:
                call = request.call(run_ms, **headers)
            except Exception:
                self._lose(request)
            else:
                Parkable(self._run, self._loop).switch(call)

        streams = isinstance(sidecar, StreamingSidecar)
        if streams and sidecar.begin(request.unit, done, failed, trace):
            # The job goes out first: its log line takes as long as a small job. No reply is read before.
            self._event_loop.soon.append(functools.partial(_note, request))
        else:
            request.begin()
            trace()

    def _lose(self, request: LazyRequest) -> None:
        # A fault of ours must cost neither the slot nor the job, nor the end of the worker.
        self.running -= 1
        request.lose()
        failure_log.fault("jid=%s could not be run to its end", request.id)

    def _run(self, call: Call) -> None:
        try:
            apply(call)
        finally:
            self.running -= 1


def _note(request: LazyRequest) -> None:
    """Note that the sidecar has this job. Raises nothing: the run goes on, and its reply settles it."""
    try:
        if not request.acknowledged:
            request.begin()
    except Exception:
        failure_log.fault("jid=%s runs in the sidecar, and that could not be noted", request.id)
