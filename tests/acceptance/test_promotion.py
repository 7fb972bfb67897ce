"""Due jobs pass the app's client middleware, as they do when Sidekiq's own poller pushes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for, wait_until_equal

STAMPING = ROOT / "tests/support/ruby/stamping_jobs.rb"


@pytest.fixture
def stamping(bare_stage: Stage) -> Stage:
    """A sidecar whose app has client middleware, and a worker that serves another queue than the jobs'."""
    bare_stage.start_sidecar(require=Path(STAMPING))
    bare_stage.start_worker("-Q", "nothing")
    return bare_stage


def schedule(stage: Stage, name: str, **fields: Any) -> str:
    job = {
        "class": "EchoJob",
        "args": [],
        "queue": "promoted",
        "jid": f"jid-{len(fields)}-{fields}",
        **fields,
    }
    stage.redis.zadd(name, {json.dumps(job): 1.0})
    return str(job["jid"])


def promoted(stage: Stage) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in stage.redis.lrange("queue:promoted", 0, -1)]


def test_due_jobs_are_changed_and_halted_by_client_middleware(stamping: Stage) -> None:
    stage = stamping

    # Given due jobs in both sets, one that the middleware halts and one at which it fails
    schedule(stage, "schedule", args=[1.0, 2**70, "zoë"], secret="x")
    schedule(stage, "retry", args=["again"], retry_count=2, stamps=4)
    schedule(stage, "retry", args=["halt"])
    schedule(stage, "retry", args=["fail"])

    # Then each is moved as the middleware left it
    wait_until_equal(lambda: len(promoted(stage)), 3, "promoted jobs", 20)
    found = {str(job["args"]): job for job in promoted(stage)}
    fresh = found[str([1.0, 2**70, "zoë"])]
    assert fresh["stamps"] == 1
    assert "secret" not in fresh
    assert found["['again']"]["stamps"] == 5
    assert "stamps" not in found["['fail']"]
    assert all("enqueued_at" in job for job in found.values())
    assert not stage.redis.exists("retry", "schedule")


def test_without_a_sidecar_due_jobs_are_moved_as_they_are(stamping: Stage) -> None:
    stage = stamping
    assert stage.sidecar is not None
    assert stage.worker is not None
    stage.sidecar.stop()

    schedule(stage, "schedule", args=["late"])

    wait_until_equal(lambda: len(promoted(stage)), 1, "promoted jobs", 20)
    assert "stamps" not in promoted(stage)[0]
    wait_for(lambda: "do not pass the app's client middleware" in stage.worker.log, "a word about it")
    holds_for(lambda: len(promoted(stage)) == 1, 0.5, "once")
