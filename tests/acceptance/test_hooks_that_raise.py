"""A hook that raises changes nothing about what the run decided, under every pool.

Under prefork the decision travels on the run's error, and the hook's error came in its place: a job that
must not be retried (``dont_autoretry_for``) was retried 25 times, and the delay of ``self.retry`` was lost.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.support.hook_tasks import HOOKS
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal


@pytest.fixture(params=["default", "prefork", "solo"])
def pooled(request: pytest.FixtureRequest, bare_stage: Stage) -> Stage:
    flags = () if request.param == "default" else ("-P", request.param)
    bare_stage.start_worker(
        *("-Q", "hooks", *flags), concurrency=2, name="hooks", module="tests.support.hook_tasks"
    )
    return bare_stage


def test_what_the_run_decided_holds_whatever_a_hook_raises(pooled: Stage) -> None:
    stage = pooled

    # Given a job that asks for a retry in ten hours, one that must not be retried, and one that is dropped
    for hook in HOOKS:
        stage.push_job({"class": "LaterHookJob", "args": [hook], "retry": True}, "hooks")
        stage.push_job({"class": "FinalHookJob", "args": [hook], "retry": True}, "hooks")
        stage.push_job({"class": "FinalHookJob", "args": [hook], "retry": False, "dead": False}, "hooks")

    # When each has run, and its hook has raised
    wait_until_equal(stage.counters, (3 * len(HOOKS), 3 * len(HOOKS)), "processed and failed", 30)
    stage.wait_idle()

    # Then the first waits for its ten hours, the second is dead, and the third is gone
    waiting = stage.redis.zrange("retry", 0, -1, withscores=True)
    assert sorted(_told(member) for member, _ in waiting) == _expected("LaterHookJob")
    assert all(35_000 < at - time.time() < 36_100 for _, at in waiting)
    assert sorted(map(_told, stage.redis.zrange("dead", 0, -1))) == _expected("FinalHookJob")


def test_a_hook_that_rejects_a_job_buries_it(pooled: Stage) -> None:
    """Celery's own meaning. The job was retried as one whose error could not be told of."""
    stage = pooled
    stage.push_job({"class": "RejectingHookJob", "args": [], "retry": True}, "hooks")

    assert stage.only("dead")["error_class"] == "Bridge::Rejected"
    assert [line["event"] for line in stage.ledger.lines] == ["started"]


def _told(member: bytes) -> tuple[str, str, str]:
    entry = json.loads(member)
    return entry["class"], entry["args"][0], f"{entry['error_class']}: {entry['error_message']}"


def _expected(job_class: str) -> list[tuple[str, str, str]]:
    return [(job_class, hook, "ValueError: of the run") for hook in sorted(HOOKS)]
