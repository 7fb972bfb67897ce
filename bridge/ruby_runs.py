"""Runs Ruby tasks on the consumer's thread, many at a time: each only waits for the sidecar.

Celery's tracer takes a quarter of the worker's time for a small job, and is there for what others may notice:
signals, errors, retries. So a job goes to the sidecar first. One that was done while nobody watches is done;
any other is traced, with the sidecar's reply at hand. The tracer runs in a greenlet, which parks wherever it
must wait.
"""

from __future__ import annotations

import os
import time
from typing import Any

import greenlet

from bridge import observers
from bridge.broker.messages import DELIVERY_HEADER, RUBY_TASK
from bridge.runs import Call, apply
from bridge.sidecar.parking import Parkable
from bridge.sidecar.streaming import StreamingSidecar
from bridge.sidekiq.unit_of_work import Delivery


class RubyRuns:
    """Belongs to the thread and the greenlet that made it."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = greenlet.getcurrent()
        self._is_observed = observers.observation(app.tasks[RUBY_TASK])
        self._pid = os.getpid()
        self.running = 0

    def start(self, call: Call) -> None:
        """Begin a run. Returns at once."""
        delivery: Delivery = call.args[2][DELIVERY_HEADER]
        sidecar = self._app.bridge.sidecar
        if self._is_observed() or not isinstance(sidecar, StreamingSidecar):
            self.running += 1
            self._trace(call)
        else:
            began = time.monotonic()
            if call.accept_callback is not None:
                call.accept_callback(self._pid, began)
            self.running += 1
            self._send(sidecar, delivery, call._replace(accept_callback=None), began)

    def _send(self, sidecar: StreamingSidecar, delivery: Delivery, call: Call, began: float) -> None:
        held = self._app.bridge.lease.holds(delivery.identity)
        if not held or not sidecar.begin(
            delivery,
            lambda run_ms: self._done(call, began, delivery.token, run_ms),
            lambda: self._trace(call),
        ):
            self._trace(call)

    def _done(self, call: Call, began: float, token: int, run_ms: float) -> None:
        """As the tracer tells of a task that returned None."""
        self._app.bridge.fetcher.ran(token, run_ms)
        self.running -= 1
        apply(call._replace(target=_result, args=(time.monotonic() - began,)))

    def _trace(self, call: Call) -> None:
        Parkable(self._run, self._loop).switch(call)

    def _run(self, call: Call) -> None:
        try:
            apply(call)
        finally:
            self.running -= 1


def _result(seconds: float) -> tuple[int, str, float]:
    return 0, "None", seconds
