"""`apply_async(time_limit=, soft_time_limit=)` travels in the payload and ends the job, in Python and Ruby.

Both options were dropped. Sidekiq's own process and its pages take no notice of the two fields.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.celery import Bridge
from bridge.errors import PushRefused
from tests.support.stage import Stage


@pytest.mark.parametrize("name", ["SleepJob", "NativePatientJob"])
def test_a_time_limit_of_one_push_ends_that_job(stage: Stage, producer: Bridge, name: str) -> None:
    jid = producer.send_task(name, args=[30], time_limit=0.5).id

    entry = stage.only("retry")

    assert (entry["jid"], entry["time_limit"]) == (jid, 0.5)
    assert entry["error_class"] == "Bridge::DeadlineExceeded"
    stage.ruby.get("/retries").assert_fine()


def test_a_soft_limit_of_one_push_is_raised_in_the_task(stage: Stage, producer: Bridge) -> None:
    producer.send_task("NativePatientJob", args=[1.5], soft_time_limit=0.3)

    stage.wait_counters(1, 0)

    assert "swallowed" in [line["event"] for line in stage.ledger.lines]


def test_the_fields_of_the_payload_are_sidekiqs_to_ignore(
    stage: Stage, producer: Bridge, stock_sidekiq: object
) -> None:
    jid = producer.send_task("EchoJob", args=[1], queue="stock", time_limit=5, soft_time_limit=2.5).id

    stage.ledger.wait_for("done", jid)


def test_a_push_without_limits_carries_none_and_the_tasks_own_stay_with_the_task(
    stage: Stage, producer: Bridge
) -> None:
    @producer.task(name="LimitedJob", time_limit=9, soft_time_limit=8)
    def limited() -> None:
        """Pushed only."""

    for ways in ({}, {"time_limit": 9}, {"countdown": 0.0}):
        limited.apply_async(queue="nowhere", **ways)
    limited.apply_async(queue="nowhere", time_limit=7, eta=None)

    found = [json.loads(member) for member in stage.redis.lrange("queue:nowhere", 0, -1)]
    assert [job.get("time_limit") for job in found] == [7, None, None, None]
    assert not any("soft_time_limit" in job for job in found)


@pytest.mark.parametrize("value", [0, -1, "5", True, float("nan"), float("inf"), 1e12])
def test_what_is_not_seconds_is_refused_and_nothing_is_written(
    stage: Stage, producer: Bridge, value: Any
) -> None:
    for option in ("time_limit", "soft_time_limit"):
        with pytest.raises(PushRefused, match=f"EchoJob: {option}=.*: write seconds"):
            producer.send_task("EchoJob", args=[], queue="nowhere", **{option: value})

    assert stage.redis.llen("queue:nowhere") == 0
