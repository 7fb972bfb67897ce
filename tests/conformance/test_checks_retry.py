"""Checks 15 to 35: what becomes of a job that failed, in Ruby and in Python, by each version's own rules."""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Any

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

Version = tuple[int, ...]


def seconds(stamp: float, sidekiq: Version) -> float:
    """A payload's time in epoch seconds; its type is that of the version."""
    assert type(stamp) is (int if sidekiq >= (8,) else float), stamp
    return stamp / 1000 if sidekiq >= (8,) else stamp


def stamp(epoch: float, sidekiq: Version) -> float:
    """A time as this version writes it into payloads."""
    return int(epoch * 1000) if sidekiq >= (8,) else epoch


def delay(stage: Stage, since: float) -> float:
    return stage.score("retry") - since


def assert_dropped(stage: Stage, jid: str, *, counted: int = 1) -> None:
    """The job failed and stands nowhere."""
    stage.wait_counters(counted, counted)
    stage.wait_idle()
    assert (stage.redis.zcard("retry"), stage.redis.zcard("dead")) == (0, 0)


def test_check_15_a_first_failure_is_retried_in_15_to_25_seconds(
    stage: Stage, failing: str, sidekiq: Version
) -> None:
    before = time.time()
    jid = stage.ruby.push(failing, "oh no")

    entry = stage.only("retry")

    failed_at = seconds(entry["failed_at"], sidekiq)
    assert entry["jid"] == jid
    assert entry["retry_count"] == 0
    assert "retried_at" not in entry
    assert before - 0.01 <= failed_at <= time.time()
    assert entry["error_class"] == ("ArgumentError" if failing == "FailJob" else "ValueError")
    assert entry["error_message"] == "oh no"
    assert entry["queue"] == "default"
    assert 15 <= delay(stage, failed_at) < 25.5


def test_check_16_a_second_failure_keeps_failed_at_and_sets_retried_at(
    stage: Stage, failing: str, sidekiq: Version
) -> None:
    failed_at = stamp(time.time() - 100, sidekiq)
    stage.push_job({"class": failing, "retry": True, "retry_count": 0, "failed_at": failed_at})

    entry = stage.only("retry")

    assert entry["retry_count"] == 1
    assert entry["failed_at"] == failed_at
    waited = delay(stage, seconds(entry["retried_at"], sidekiq))
    assert 16 <= waited < 36.5
    if sidekiq < (8,):
        assert round(waited) % 2 == 0, f"16 + 2 x (0 to 9), not {waited}"


def test_check_17_the_delay_is_the_count_to_the_fourth_and_15(
    stage: Stage, failing: str, sidekiq: Version
) -> None:
    for count in range(1, 25):
        fields = {"retry": 30, "retry_count": count - 1, "failed_at": stamp(time.time(), sidekiq)}
        stage.push_job({"class": failing, "args": [str(count)], **fields})
    stage.push_job({"class": failing, "args": ["0"], "retry": 30})

    wait_until_equal(lambda: stage.redis.zcard("retry"), 25, "entries in retry")

    for member, score in stage.redis.zrange("retry", 0, -1, withscores=True):
        entry = json.loads(member)
        count = entry["retry_count"]
        failed = seconds(entry["retried_at"] if count else entry["failed_at"], sidekiq)
        assert entry["error_message"] == str(count)
        assert count**4 + 15 <= score - failed < count**4 + 15 + 10 * (count + 1) + 0.5


def test_check_18_after_25_retries_a_job_is_dead(stage: Stage, failing: str, sidekiq: Version) -> None:
    failed_at = stamp(time.time() - 5, sidekiq)
    jid = stage.push_job({"class": failing, "retry": True, "retry_count": 24, "failed_at": failed_at})

    entry = stage.only("dead")

    assert entry["retry_count"] == 25
    assert stage.redis.zcard("retry") == 0
    if failing == "FailJob":
        assert stage.ledger.count("died", jid) == 1


def test_check_19_retry_0_is_dead_at_once(stage: Stage, failing: str) -> None:
    stage.ruby.push(failing, retry=0)

    assert stage.only("dead")["retry_count"] == 0
    assert stage.redis.zcard("retry") == 0


def test_check_20_retry_false_is_dropped(stage: Stage, failing: str) -> None:
    jid = stage.ruby.push(failing, retry=False)

    assert_dropped(stage, jid)
    if failing == "FailJob":
        assert stage.ledger.count("died", jid) == 1


def test_check_21_without_retry_the_class_decides_and_it_is_written_down(stage: Stage, failing: str) -> None:
    stage.push_job({"class": failing})

    assert stage.only("retry")["retry"] is True


def test_check_21_without_retry_a_class_of_two_retries_has_two(stage: Stage) -> None:
    stage.push_job({"class": "RetryTwoJob"})

    assert stage.only("retry")["retry"] == 2


def test_check_22_without_retry_a_job_of_an_unknown_class_is_dead(stage: Stage) -> None:
    """Sidekiq drops it. Nothing says that this is meant, so the bridge keeps it."""
    jid = stage.push_job({"class": "NoSuchJob"})

    assert stage.only("dead")["jid"] == jid
    assert stage.ledger.count("died", jid) == 1


def test_check_23_an_unknown_class_with_retry_waits_for_its_deployment(
    stage: Stage, sidekiq: Version
) -> None:
    stage.push_job({"class": "NoSuchJob", "retry": True})

    entry = stage.only("retry")

    assert entry["error_class"] == "NameError"
    assert 15 <= delay(stage, seconds(entry["failed_at"], sidekiq)) < 25.5


@pytest.mark.parametrize("option", ["5", 2.0])
def test_check_24_text_and_fractions_mean_the_default_of_25(
    stage: Stage, failing: str, sidekiq: Version, option: Any
) -> None:
    fields = {"retry": option, "retry_count": 10, "failed_at": stamp(time.time(), sidekiq)}
    stage.push_job({"class": failing, **fields})

    entry = stage.only("retry")

    assert (entry["retry_count"], entry["retry"]) == (11, option)


def test_check_25_the_failure_after_the_web_uis_retry_counts_from_minus_one(
    stage: Stage, failing: str, sidekiq: Version
) -> None:
    failed_at = stamp(time.time() - 50, sidekiq)
    stage.push_job({"class": failing, "retry": 3, "retry_count": -1, "failed_at": failed_at})

    entry = stage.only("retry")

    assert entry["retry_count"] == 0
    assert entry["failed_at"] == failed_at
    assert time.time() - seconds(entry["retried_at"], sidekiq) < 5


def test_check_26_the_retry_waits_in_its_retry_queue(stage: Stage, failing: str) -> None:
    stage.push_job({"class": failing, "retry": True, "retry_queue": "parked"})
    assert stage.only("retry")["queue"] == "parked"

    stage.make_due("retry")

    wait_until_equal(lambda: stage.redis.llen("queue:parked"), 1, "jobs in parked")
    assert b"parked" in stage.redis.smembers("queues")


def test_check_27_dead_false_leaves_no_grave(stage: Stage, failing: str) -> None:
    jid = stage.push_job({"class": failing, "retry": 0, "dead": False})

    assert_dropped(stage, jid)
    if failing == "FailJob":
        assert stage.ledger.count("died", jid) == 1


def test_check_28_retry_for_ends_by_time(stage: Stage, failing: str, sidekiq: Version) -> None:
    failed_at = stamp(time.time() - 120, sidekiq)
    stage.push_job(
        {"class": failing, "retry": True, "retry_for": 60, "retry_count": 1, "failed_at": failed_at}
    )

    # Before 7.1.3 nobody knows retry_for.
    place = "dead" if sidekiq >= (7, 1, 3) else "retry"
    assert stage.only(place)["retry_count"] == 2


def test_check_29_whether_retry_for_ends_by_count_too(stage: Stage, failing: str, sidekiq: Version) -> None:
    failed_at = stamp(time.time() - 5, sidekiq)
    stage.push_job(
        {"class": failing, "retry": True, "retry_for": 3600, "retry_count": 99, "failed_at": failed_at}
    )

    place = "retry" if sidekiq >= (8, 1) else "dead"
    assert stage.only(place)["retry_count"] == 100


@pytest.mark.parametrize(("ago", "place"), [(120, "dead"), (10, "retry")])
def test_check_30_retry_for_reads_a_failed_at_in_milliseconds(
    stage: Stage, failing: str, sidekiq: Version, ago: int, place: str
) -> None:
    if sidekiq < (7, 1, 3):
        place = "retry"  # no retry_for
    elif failing == "FailJob" and sidekiq < (8,):
        place = "retry"  # Ruby decides for Ruby jobs, and Sidekiq 7 reads seconds
    failed_at = int((time.time() - ago) * 1000)
    fields = {"retry": True, "retry_for": 60, "retry_count": 1, "failed_at": failed_at}
    stage.push_job({"class": failing, **fields})

    assert stage.only(place)["failed_at"] == failed_at


@pytest.mark.parametrize(
    ("answer", "least", "most"), [("100", 100, 110.5), ("0", 15, 25.5), ("nil", 15, 25.5)]
)
def test_check_31_retry_in_says_when(
    stage: Stage, sidekiq: Version, answer: str, least: float, most: float
) -> None:
    stage.ruby.push("HookJob", answer)

    entry = stage.only("retry")

    assert least <= delay(stage, seconds(entry["failed_at"], sidekiq)) < most


def test_check_31_retry_in_kills(stage: Stage, sidekiq: Version) -> None:
    jid = stage.ruby.push("HookJob", "kill")

    if sidekiq < (6, 5, 2):  # a symbol breaks the handler itself
        assert stage.only("retry")["error_class"] == "NoMethodError"
    else:
        assert stage.only("dead")["jid"] == jid
        assert (stage.ledger.count("exhausted", jid), stage.ledger.count("died", jid)) == (1, 1)


def test_check_31_retry_in_discards(stage: Stage, sidekiq: Version) -> None:
    jid = stage.ruby.push("HookJob", "discard")

    if sidekiq < (6, 5, 2):
        assert stage.only("retry")["error_class"] == "NoMethodError"
    else:
        assert_dropped(stage, jid)
        assert stage.ledger.count("died", jid) == (1 if sidekiq >= (8, 0, 7) else 0)


def test_check_32_a_broken_retry_in_means_the_default(stage: Stage, sidekiq: Version) -> None:
    stage.ruby.push("HookJob", "raise")

    entry = stage.only("retry")

    assert entry["error_message"].startswith("raise")
    assert 15 <= delay(stage, seconds(entry["failed_at"], sidekiq)) < 25.5


def test_check_33_a_long_message_is_cut(stage: Stage) -> None:
    stage.ruby.push("LongMessageJob")

    assert stage.only("retry")["error_message"] == "é" * 10_000


def test_check_33_a_long_message_from_python_is_cut(stage: Stage) -> None:
    stage.ruby.push("NativeFailJob", "é" * 20_000)

    assert stage.only("retry")["error_message"] == "é" * 10_000


def test_check_33_invalid_bytes_in_a_message_become_valid(stage: Stage) -> None:
    stage.ruby.push("InvalidBytesJob")

    message = stage.only("retry")["error_message"]

    assert message.startswith("caf\ufffd")


def decoded(entry: dict[str, Any], sidekiq: Version) -> list[str]:
    text = entry["error_backtrace"]
    if entry["class"].startswith("Native") or sidekiq >= (7, 2, 1):
        assert "\n" not in text  # what Sidekiq itself wrote before 7.2.1 is wrapped
    lines: list[str] = json.loads(zlib.decompress(base64.b64decode(text)))
    return lines


def test_check_34_backtrace_true_keeps_the_whole_backtrace(
    stage: Stage, failing: str, sidekiq: Version
) -> None:
    stage.ruby.push(failing, backtrace=True)

    lines = decoded(stage.only("retry"), sidekiq)

    assert any("jobs.rb" in line or "native_tasks.py" in line for line in lines)
    (entry,) = stage.ruby.set("retry")
    assert entry["backtrace"] == lines


def test_check_34_backtrace_2_keeps_two_lines(stage: Stage, failing: str, sidekiq: Version) -> None:
    stage.ruby.push(failing, backtrace=2)

    assert len(decoded(stage.only("retry"), sidekiq)) == 2


def test_check_34_without_backtrace_there_is_none(stage: Stage, failing: str) -> None:
    stage.ruby.push(failing)

    assert "error_backtrace" not in stage.only("retry")


def test_check_35_what_middleware_changes_is_not_stored(stage: Stage) -> None:
    jid = stage.push_job({"class": "FailJob", "args": ["original"], "retry": True, "change_args": True})

    assert stage.only("retry")["args"] == ["original"]
    assert stage.ledger.args(jid, "failed") == ["original"]
    wait_for(lambda: stage.ledger.count("error", jid), "the error handlers to be told")
