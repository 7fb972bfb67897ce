"""The task behind every Ruby class, and the native probe of ``bridge verify``.

Native tasks go here too, or into any module that imports ``bridge.app``::

    @app.task(name="ReportJob")
    def report(user_id): ...
"""

from __future__ import annotations

import time
from typing import Any

from celery.app.task import Context

from bridge.broker.messages import RUBY_TASK
from bridge.celery import app
from bridge.execution import returned
from bridge.execution.canvas import ERRBACK_TASK
from bridge.execution.hand_over import conclude, hand_over
from bridge.execution.task import SidekiqTask
from bridge.results.raising import error_of
from bridge.results.record import DEAD, Record

#: The longest that the native probe of ``bridge verify`` sleeps.
LONGEST_PROBE_SECONDS = 5.0


@app.task(name=RUBY_TASK, bind=True)  # type: ignore[arg-type]
def perform(self: SidekiqTask) -> Any:
    """Run the job in Rails, through the sidecar. Returns the result of a tracked job.

    Raises:
        RubyError: the job failed; ``SidekiqTask`` carries out what Ruby decided.
        Settle: the job was not run to its end, and no attempt is spent.
    """
    delivery = self.delivery
    assert delivery is not None, "push a job with app.send_task('HardJob', args=[...])"
    result = hand_over(app, delivery, app.bridge.sidecar.execute)
    app.bridge.fetcher.in_flight.ran(delivery.token, result.duration_ms)
    conclude(result)
    return returned.reported(app.bridge, delivery, result.result) if delivery.is_reported else None


@app.task(name=ERRBACK_TASK)
def errback(name: str, failed: dict[str, Any]) -> Any:
    """Call a Python handler of ``link_error`` as Celery does, with request, exception and traceback."""
    record = Record(
        str(failed["id"]), DEAD, error_class=failed["error_class"], error_message=failed["error_message"]
    )
    request = Context(id=failed["id"], task=failed["task"], args=failed["args"])
    return app.tasks[name](request, error_of(record), None)


class ProbeFailed(Exception):
    """Raised on purpose by ``bridge verify``. Error collectors can leave it out by its class."""


@app.task(name="SidekiqBridge::NativeProbe")
def probe(outcome: str, seconds: float = 0.0) -> None:
    """End as ``outcome`` says: ``done``, or anything else for a failure."""
    if outcome != "done":
        raise ProbeFailed("failed on purpose, by `bridge verify`")
    time.sleep(min(max(0.0, seconds), LONGEST_PROBE_SECONDS))
