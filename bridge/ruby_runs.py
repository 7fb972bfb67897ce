"""Runs Ruby tasks on the consumer's thread, many at a time: each only waits for the sidecar.

Celery's tracer takes a quarter of the worker's time for a small job, and is there for what others may notice:
signals, errors, retries. So a plain request goes to the sidecar first. One that was done is done; any other
is traced, with the sidecar's reply at hand. The tracer runs in a greenlet, which parks wherever it must wait.
"""

from __future__ import annotations

import time
from typing import Any

import greenlet

from bridge.plain_request import PlainRequest
from bridge.runs import Call, apply
from bridge.sidecar.parking import Parkable
from bridge.sidecar.streaming import StreamingSidecar


class RubyRuns:
    """Belongs to the thread and the greenlet that made it."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = greenlet.getcurrent()
        self.running = 0

    def start(self, call: Call) -> None:
        """Begin a run with Celery's tracer. Returns at once, as ``begin`` does."""
        self.running += 1
        Parkable(self._run, self._loop).switch(call)

    def begin(self, request: PlainRequest) -> None:
        """Begin a run that nobody watches."""
        began = time.monotonic()
        request.begin()
        self.running += 1
        bridge = self._app.bridge
        delivery, sidecar = request.unit.delivery, bridge.sidecar

        def done(run_ms: float) -> None:
            request.unit.run_ms = run_ms
            self.running -= 1
            request.done(time.monotonic() - began)

        def trace() -> None:
            Parkable(self._run, self._loop).switch(request.call())

        streams = isinstance(sidecar, StreamingSidecar) and bridge.lease.holds(delivery.identity)
        if not streams or not sidecar.begin(delivery, done, trace):
            trace()

    def _run(self, call: Call) -> None:
        try:
            apply(call)
        finally:
            self.running -= 1
