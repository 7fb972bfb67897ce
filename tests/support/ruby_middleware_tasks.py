"""A user's module: tasks whose code runs inside the middleware of tests/support/ruby/gem_jobs.rb."""

from __future__ import annotations

import os
import time
from typing import Any

from celery.exceptions import Ignore, Reject

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support import native_tasks
from tests.support.native_tasks import note


@app.task(name="ReportJob", bind=True, ruby_middleware=True)
def report(self: SidekiqTask, outcome: str = "done", *more: Any) -> None:
    """End as ``outcome`` says."""
    note(self, "python", outcome, *more)
    if outcome == "fail":
        raise ValueError("failed on purpose")
    if outcome == "retry":
        raise self.retry(exc=LookupError("again"), countdown=1800)
    if outcome == "ignore":
        raise Ignore()
    if outcome == "reject":
        raise Reject("why", requeue=False)
    if outcome == "gate":
        gate = os.path.join(os.path.dirname(os.environ["TEST_LEDGER_HOST"]), "gate-report")
        while not os.path.exists(gate):
            time.sleep(0.01)
    if outcome == "sleep":
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.01)


@app.task(name="PickyJob", bind=True, ruby_middleware=True, autoretry_for=(ConnectionError,))
def picky(self: SidekiqTask) -> None:
    """Only errors of a connection are retried."""
    note(self, "python")
    raise KeyError("x")


@app.task(name="BareJob", bind=True)
def bare(self: SidekiqTask) -> None:
    """Named by BRIDGE_RUBY_MIDDLEWARE in some tests."""
    note(self, "python")


__all__ = ["native_tasks"]
