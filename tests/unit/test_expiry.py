from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.broker.messages import new_push
from bridge.sidekiq.payload import expiry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.timestamps import Timestamps

PUSHED = 1_790_000_000.0


def job(**fields: Any) -> SidekiqJob:
    return SidekiqJob.parse(json.dumps({"class": "HardJob", "args": [], **fields}).encode())


@pytest.mark.parametrize(
    ("fields", "moment"),
    [
        ({}, None),
        ({"expiry": PUSHED + 60.5}, PUSHED + 60.5),
        ({"expiry": PUSHED + 5, "expires_in": 60, "enqueued_at": PUSHED}, PUSHED + 5),
        ({"expires_in": 60, "enqueued_at": PUSHED, "created_at": PUSHED - 10}, PUSHED + 60),
        ({"expires_in": 60, "enqueued_at": int(PUSHED * 1000)}, PUSHED + 60),
        ({"expires_in": 60, "enqueued_at": PUSHED + 99, "created_at": PUSHED, "retry_count": 0}, PUSHED + 60),
        ({"expires_in": 60}, None),
    ],
    ids=["never", "Pro's moment", "the moment counts", "a span", "milliseconds of Sidekiq 8", "a retry",
         "no time to count from"],
)  # fmt: skip
def test_the_moment_until_which_a_job_may_begin(fields: dict[str, Any], moment: float | None) -> None:
    assert expiry.moment(job(**fields)) == moment


@pytest.mark.parametrize("odd", ["soon", None, True, [], {}, -5, 0, 1e300, 2_000_000_000])
def test_an_odd_span_expires_no_job(odd: object) -> None:
    assert expiry.moment(job(expires_in=odd, enqueued_at=PUSHED)) is None
    assert not expiry.is_over(job(expires_in=odd, enqueued_at=PUSHED), PUSHED * 2)


@pytest.mark.parametrize("odd", ["soon", True, [], {}])
def test_an_odd_moment_expires_no_job(odd: object) -> None:
    assert not expiry.is_over(job(expiry=odd), PUSHED)


def test_a_job_expires_after_its_moment() -> None:
    assert not expiry.is_over(job(expiry=PUSHED), PUSHED)
    assert expiry.is_over(job(expiry=PUSHED), PUSHED + 0.001)


@pytest.mark.parametrize(("at", "begins"), [(None, PUSHED), (PUSHED + 7200, PUSHED + 7200)])
def test_a_push_writes_the_moment_as_pro_does(at: float | None, begins: float) -> None:
    """A job in two hours with an hour to expire expires in three hours."""
    own = {"expires_in": 3600}
    pushed = new_push("default", "HardJob", [], "a" * 24, own, at, Timestamps.SECONDS, PUSHED)
    fields = json.loads(pushed.payload)
    assert (fields["expires_in"], fields["expiry"]) == (3600, begins + 3600)
