"""Checks 9 to 14: processed and failed."""

from __future__ import annotations

import time

from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

FIVE_YEARS = 157_680_000


def today_utc() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def test_check_09_done_and_failed_jobs_are_counted_for_ever_and_for_the_day(stage: Stage) -> None:
    for _ in range(4):
        stage.ruby.push("EchoJob")
    for _ in range(3):
        stage.ruby.push("NativeEchoJob")
    for job_class in ("FailJob", "NativeFailJob", "RetryFalseJob"):
        stage.ruby.push(job_class)

    stage.wait_counters(10, 3)

    for name, count in (("processed", 10), ("failed", 3)):
        key = f"stat:{name}:{today_utc()}"
        assert int(stage.redis.get(key)) == count
        assert FIVE_YEARS - 60 < stage.redis.ttl(key) <= FIVE_YEARS
    stats = stage.ruby.call("stats")
    assert (stats["processed"], stats["failed"]) == (10, 3)


def test_check_10_each_failed_attempt_counts_one_processed_and_one_failed(stage: Stage, failing: str) -> None:
    stage.ruby.push(failing)
    stage.wait_counters(1, 1)

    stage.make_due("retry")

    stage.wait_counters(2, 2)


def test_check_11_malformed_json_is_buried_and_not_counted(stage: Stage) -> None:
    stage.push_raw(b'{"class":"EchoJob","args":[')

    wait_until_equal(lambda: stage.redis.zcard("dead"), 1, "entries in dead")

    stage.wait_idle()
    assert stage.counters() == (0, 0)


def test_check_12_an_unknown_class_counts_as_a_failure(stage: Stage) -> None:
    stage.push_job({"class": "NoSuchJob", "args": [], "retry": True})

    stage.wait_counters(1, 1)


def test_check_14_the_day_is_that_of_utc(stage: Stage) -> None:
    # The worker runs in a time zone where it is another day.
    stage.ruby.push("EchoJob")
    stage.ruby.push("NativeFailJob", retry=False)
    stage.wait_counters(2, 1)

    days = {key.decode() for key in stage.redis.scan_iter("stat:*:*")}

    assert days == {f"stat:processed:{today_utc()}", f"stat:failed:{today_utc()}"}
