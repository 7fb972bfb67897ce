"""Each way that a job can take through a worker brings its result back."""

from __future__ import annotations

import pytest

from tests.acceptance.test_results import client, push, record
from tests.conformance.test_results import JOBS
from tests.support.stage import Stage


@pytest.mark.parametrize("pool", ["bridge", "prefork", "threads"])
def test_ruby_jobs_and_python_code_inside_rubys_middleware(bare_stage: Stage, pool: str) -> None:
    """Given a sidecar: a Ruby job, and a native task that runs inside the app's server middleware."""
    stage = bare_stage
    stage.jobs = JOBS
    stage.start_sidecar()
    stage.start_worker(*(() if pool == "bridge" else ("-P", pool)), module="tests.support.tracked_tasks")
    app = client(stage)
    ruby = push(stage, "TrackedJob", "value", {"a": 1.5}, bridge_track=True)
    assert app.AsyncResult(ruby).get(timeout=30) == {"a": 1.5}
    assert record(stage, ruby)["language"] == "ruby"
    wrapped = push(stage, "WrappedJob", 7)
    assert app.AsyncResult(wrapped).get(timeout=30) == [7]
    assert record(stage, wrapped)["language"] == "python"
    with pytest.raises(ValueError, match="bad"):
        app.AsyncResult(push(stage, "WrappedJob", "bad", retry=False)).get(timeout=30)
