from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.execution.time_limits import NONE, Limits, TimeLimits
from bridge.settings import values
from bridge.sidekiq.payload.job import SidekiqJob


def job(**fields: Any) -> SidekiqJob:
    return SidekiqJob(b"", {"class": "ReportJob", "args": [], **fields})


TASK = SimpleNamespace(time_limit=60, soft_time_limit=50)


@pytest.mark.parametrize(
    ("fields", "task", "hard"),
    [
        ({"time_limit": 5}, TASK, 5),
        ({}, TASK, 30),
        ({"class": "OtherJob"}, TASK, 60),
        ({"class": "OtherJob"}, None, 100),
        ({"class": "Wrapper", "wrapped": "ReportJob"}, None, 30),
    ],
)
def test_the_nearest_to_the_job_counts(fields: Any, task: Any, hard: float) -> None:
    limits = TimeLimits({"ReportJob": 30, "*": 100}, Limits(1000))

    assert limits.of(job(**fields), task).hard == hard


def test_what_holds_for_all_is_the_last_resort() -> None:
    assert TimeLimits({}, Limits(1000)).of(job()) == Limits(1000)
    assert TimeLimits({}).of(job()) is NONE
    assert TimeLimits({}).of(job(soft_time_limit=2), TASK) == Limits(60, 2)


@pytest.mark.parametrize("value", ["5", -1, 0, True, float("inf"), float("nan"), 10**400, [1], {}])
def test_a_limit_that_is_no_number_is_ignored_and_named_once(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    limits = TimeLimits({})

    with caplog.at_level(logging.WARNING):
        assert [limits.of(job(time_limit=value)) for _ in range(3)] == [NONE] * 3

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ReportJob: time_limit" in caplog.text


@pytest.mark.parametrize(
    "text", ["ReportJob:600, A::B:1.5,*:7200", {"ReportJob": 600, "A::B": 1.5, "*": 7200}]
)
def test_the_setting_names_classes_with_their_seconds(text: Any) -> None:
    assert values.time_limits(text) == {"ReportJob": 600.0, "A::B": 1.5, "*": 7200.0}


@pytest.mark.parametrize(
    "text", ["ReportJob", "ReportJob:", ":5", "ReportJob:0", "ReportJob:-1", "A:soon", 5]
)
def test_a_mistake_in_the_setting_is_named(text: Any) -> None:
    with pytest.raises(ValueError, match=r"time limit is written|separated by commas"):
        values.time_limits(text)
