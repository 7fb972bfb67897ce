"""The worker's part in native tasks that run inside Ruby's middleware: its signs of life."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bridge.execution.task import SidekiqTask
from bridge.periodic import Periodic
from bridge.sidecar.python_code import report_alive
from bridge.sidecar.stream_client import plain
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.worker.bootsteps import BridgeStep

if TYPE_CHECKING:
    from bridge.runtime import Runtime

#: Signs of life within one lease.
SIGNS = 3


class RubyMiddleware(BridgeStep):
    """Reports to the sidecars whose Python code runs here. A run of a silent worker ends there."""

    def include_if(self, c: Any) -> bool:
        """Only where a task runs inside Ruby's middleware."""
        return any(isinstance(task, SidekiqTask) and task.in_ruby_middleware for task in c.app.tasks.values())

    def make(self, c: Any) -> Periodic:
        """Make the thread that reports."""
        runtime = self.runtime(c)
        thread = Periodic("ruby-middleware", lambda: _report(runtime))
        runtime.background.attach(thread)
        return thread


def _report(runtime: Runtime) -> float:
    report_alive(plain(runtime.sidecar), _running(runtime))
    return runtime.settings.lease_seconds / SIGNS


def _running(runtime: Runtime) -> Iterator[Delivery]:
    for unit in runtime.fetcher.in_flight.running:
        if unit.native and runtime.routing.joins_ruby(unit.job):
            yield unit.delivery
