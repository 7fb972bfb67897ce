from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sidekiq.outcome.decision import Bury, DeadLimits, Discard, Retry
from bridge.sidekiq.outcome.failure import Failure
from bridge.sidekiq.outcome.retry import Family, RetryRules, decide
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.timestamps import Timestamps

NOW = 1_700_000_000.5
FAILURE = Failure("tasks.Broken", "no luck", ("b.py:2:in `inner'", "a.py:1:in `outer'", "c.py:1:in `main'"))
SIX, SEVEN, EIGHT_0, EIGHT_1 = (RetryRules(family) for family in Family)


def job(**fields: Any) -> SidekiqJob:
    return SidekiqJob.parse(
        json.dumps({"class": "HardJob", "args": [1], "jid": "j1", "queue": "old", **fields}).encode()
    )


def after(
    failed: SidekiqJob,
    rules: RetryRules = SEVEN,
    *,
    failure: Failure = FAILURE,
    seed: int = 1,
    **options: Any,
) -> Retry | Bury | Discard:
    return decide(failed, failure, queue="default", rules=rules, now=NOW, rng=random.Random(seed), **options)


def stored(decision: Retry | Bury | Discard) -> dict[str, Any]:
    assert isinstance(decision, Retry | Bury)
    fields: dict[str, Any] = json.loads(decision.payload)
    return fields


def waits(failed: SidekiqJob, rules: RetryRules, **options: Any) -> set[float]:
    decisions = [after(failed, rules, seed=seed, **options) for seed in range(400)]
    return {decision.at - NOW for decision in decisions if isinstance(decision, Retry)}


def test_check_15_the_first_failure_of_a_job_is_retried_within_25_seconds() -> None:
    decision = after(job(retry=True))
    assert isinstance(decision, Retry)
    assert 15 <= decision.at - NOW < 25
    assert stored(decision) == {
        "class": "HardJob",
        "args": [1],
        "jid": "j1",
        "queue": "default",
        "retry": True,
        "error_message": "no luck",
        "error_class": "tasks.Broken",
        "failed_at": NOW,
        "retry_count": 0,
    }


def test_new_fields_stand_in_sidekiqs_order_behind_the_old_ones() -> None:
    names = list(stored(after(job(backtrace=True))))
    assert names[4:] == [
        "backtrace",
        "retry",
        "error_message",
        "error_class",
        "failed_at",
        "retry_count",
        "error_backtrace",
    ]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (SIX, {16 + 2 * n for n in range(10)}),
        (SEVEN, {16 + 2 * n for n in range(10)}),
        (EIGHT_0, {16 + n for n in range(20)}),
        (EIGHT_1, {16 + n for n in range(20)}),
    ],
)
def test_check_16_second_failure_waits_with_the_jitter_of_its_family(
    rules: RetryRules, expected: set[float]
) -> None:
    failed = job(retry=True, retry_count=0, failed_at=NOW - 60)
    assert waits(failed, rules) == expected


def test_check_16_second_failure_sets_retried_at_and_keeps_failed_at() -> None:
    fields = stored(after(job(retry=True, retry_count=0, failed_at=NOW - 60)))
    assert (fields["retry_count"], fields["retried_at"], fields["failed_at"]) == (1, NOW, NOW - 60)


@pytest.mark.parametrize("count", range(25))
def test_check_17_the_delay_grows_with_the_fourth_power(count: int) -> None:
    failed = job(retry=100, failed_at=NOW, **({"retry_count": count - 1} if count else {}))
    assert min(waits(failed, SEVEN)) == count**4 + 15


@pytest.mark.parametrize("rules", [SIX, SEVEN, EIGHT_0, EIGHT_1])
def test_check_18_the_26th_failure_is_buried(rules: RetryRules) -> None:
    decision = after(job(retry=True, retry_count=24, failed_at=NOW - 9), rules)
    assert isinstance(decision, Bury)
    assert stored(decision)["retry_count"] == 25


def test_check_19_retry_0_is_buried_at_once() -> None:
    assert isinstance(after(job(retry=0)), Bury)


def test_check_20_retry_false_goes_nowhere() -> None:
    assert after(job(retry=False)) == Discard()


def test_check_21_an_absent_retry_takes_the_classs_and_stores_it() -> None:
    assert stored(after(job()))["retry"] is True
    assert stored(after(job(retry=None), class_retry=3))["retry"] == 3


@pytest.mark.parametrize("class_retry", [None, False])
def test_check_22_an_absent_retry_without_one_of_the_class_goes_nowhere(class_retry: bool | None) -> None:
    assert after(job(), class_retry=class_retry) == Discard()


@pytest.mark.parametrize("retry", ["5", 2.0, True, [], {"a": 1}])
def test_check_24_any_other_truth_means_the_default(retry: Any) -> None:
    assert isinstance(after(job(retry=retry, retry_count=10, failed_at=NOW)), Retry)
    assert isinstance(after(job(retry=retry, retry_count=24, failed_at=NOW)), Bury)


def test_check_25_a_count_of_minus_one_counts_as_a_later_failure() -> None:
    fields = stored(after(job(retry=3, retry_count=-1, failed_at=NOW - 60)))
    assert (fields["retry_count"], fields["retried_at"], fields["failed_at"]) == (0, NOW, NOW - 60)


def test_check_26_retry_queue_is_the_next_queue() -> None:
    assert stored(after(job(retry_queue="low")))["queue"] == "low"


def test_check_27_dead_false_keeps_an_exhausted_job_out_of_the_dead_set() -> None:
    assert after(job(retry=0, dead=False)) == Discard()
    assert isinstance(after(job(retry=0, dead=None)), Bury)


@pytest.mark.parametrize(("rules", "kind"), [(SIX, Retry), (SEVEN, Bury), (EIGHT_0, Bury), (EIGHT_1, Bury)])
def test_check_28_retry_for_ends_after_its_seconds(rules: RetryRules, kind: type) -> None:
    assert isinstance(after(job(retry_for=60, retry_count=1, failed_at=NOW - 120), rules), kind)


@pytest.mark.parametrize(("rules", "kind"), [(SIX, Bury), (SEVEN, Bury), (EIGHT_0, Bury), (EIGHT_1, Retry)])
def test_check_29_retry_for_replaces_the_count_from_8_1(rules: RetryRules, kind: type) -> None:
    assert isinstance(after(job(retry_for=3600, retry_count=99, failed_at=NOW - 60), rules), kind)


@pytest.mark.parametrize(("ago", "kind"), [(30, Retry), (120, Bury)])
def test_check_30_retry_for_reads_milliseconds_of_sidekiq_8(ago: int, kind: type) -> None:
    failed_at = int((NOW - ago) * 1000)
    decision = after(job(retry_for=60, retry_count=1, failed_at=failed_at))
    assert isinstance(decision, kind)
    assert stored(decision)["failed_at"] == failed_at


@pytest.mark.parametrize("retry_for", [10**400, -(10**400), 1e308])
def test_a_retry_for_beyond_all_numbers_does_not_raise(retry_for: float) -> None:
    assert isinstance(after(job(retry_for=retry_for, retry_count=1, failed_at=NOW)), Retry | Bury)


def test_a_retry_for_that_is_no_number_counts_as_absent() -> None:
    assert isinstance(after(job(retry_for="60", retry_count=24, failed_at=NOW), EIGHT_1), Bury)


def test_check_31_an_own_delay_replaces_the_curve_and_gets_jitter() -> None:
    assert waits(job(), SEVEN, delay=lambda count: 100) == {100 + n for n in range(10)}


@pytest.mark.parametrize(
    "delay", [lambda count: None, lambda count: 0, lambda count: -5.0, lambda count: float("nan")]
)
def test_check_31_no_delay_means_the_curve(delay: Callable[[int], float | None]) -> None:
    assert waits(job(), SEVEN, delay=delay) == {15 + n for n in range(10)}


def test_a_final_delay_is_taken_as_it_is() -> None:
    assert waits(job(), SEVEN, delay=lambda count: 0.25, delay_is_final=True) == {0.25}
    assert waits(job(), SEVEN, delay=lambda count: 0, delay_is_final=True) == {0.0}


def test_a_delay_ends_within_a_hundred_years() -> None:
    """As the sidecar cuts the delay of a Ruby job: the pages showed a year of 293 digits."""
    assert waits(job(), SEVEN, delay=lambda count: 1e300, delay_is_final=True) == {3_155_760_000.0}


def test_an_own_delay_is_told_the_count_of_this_failure() -> None:
    failed = job(retry_count=3, failed_at=NOW)
    assert waits(failed, SEVEN, delay=lambda count: count * 10.0, delay_is_final=True) == {40.0}


def test_check_33_the_message_is_cut_and_valid() -> None:
    fields = stored(after(job(), failure=Failure.of(ValueError("\ud800" + "é" * 20_000), job())))
    assert fields["error_message"] == "?" + "é" * 9_999


@pytest.mark.parametrize(
    ("option", "lines"), [(True, 3), (2, 2), (0, 0), ("1", 1), (1.9, 1), ("x", 0), ({}, 0)]
)
def test_check_34_backtrace_keeps_all_or_the_first_lines(option: Any, lines: int) -> None:
    text = stored(after(job(backtrace=option)))["error_backtrace"]
    assert json.loads(zlib.decompress(base64.b64decode(text))) == list(FAILURE.backtrace[:lines])


@pytest.mark.parametrize("option", [False, None])
def test_check_34_without_backtrace_none_is_stored(option: Any) -> None:
    assert "error_backtrace" not in stored(after(job(backtrace=option)))


def test_check_6_all_other_bytes_survive() -> None:
    raw = b'{"class":"A","args":[1.0, 12345678901234567890, "\xc3\xa9\\u00e9"],"foo":{"dead":7}, "bid":"b"}'
    decision = after(SidekiqJob.parse(raw))
    assert isinstance(decision, Retry)
    assert decision.payload.startswith(raw[:-1])


def test_check_64_times_are_written_in_the_unit_of_the_cluster() -> None:
    fields = stored(after(job(), RetryRules(Family.EIGHT_1, Timestamps.MILLISECONDS)))
    assert fields["failed_at"] == 1_700_000_000_500


def test_a_job_that_lost_its_failed_at_gets_one() -> None:
    fields = stored(after(job(retry_count=3)))
    assert (fields["failed_at"], fields["retried_at"], fields["retry_count"]) == (NOW, NOW, 4)


def test_check_36_the_configured_limits_go_with_the_burial() -> None:
    limits = DeadLimits(3, 60)
    decision = after(job(retry=0), RetryRules(dead_limits=limits))
    assert isinstance(decision, Bury)
    assert decision.limits == limits


def test_max_retries_of_the_cluster_holds_for_retry_true_only() -> None:
    rules = RetryRules(max_retries=2)
    assert isinstance(after(job(retry=True, retry_count=1, failed_at=NOW), rules), Bury)
    assert isinstance(after(job(retry=5, retry_count=1, failed_at=NOW), rules), Retry)


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
anything |= st.lists(st.integers(), max_size=2) | st.dictionaries(
    st.text(max_size=2), st.integers(), max_size=2
)
options = st.sampled_from(
    ["retry", "retry_count", "retry_for", "retry_queue", "dead", "backtrace", "failed_at"]
)


@given(fields=st.dictionaries(options, anything), family=st.sampled_from(Family))
def test_whatever_the_options_hold_a_failure_is_decided(fields: dict[str, Any], family: Family) -> None:
    decision = after(job(**fields), RetryRules(family))
    if isinstance(decision, Retry):
        assert decision.at > NOW
        assert stored(decision)["jid"] == "j1"


@pytest.mark.parametrize(
    ("version", "family"),
    [
        ("6.4.1", Family.SIX),
        ("7.1.2", Family.SIX),
        ("7.1.3", Family.SEVEN),
        ("7.3.10", Family.SEVEN),
        ("8.0.0", Family.EIGHT_0),
        ("8.0.10", Family.EIGHT_0),
        ("8.1.0", Family.EIGHT_1),
        ("9.0", Family.EIGHT_1),
    ],
)
def test_a_version_belongs_to_the_family_that_decides_like_it(version: str, family: Family) -> None:
    assert Family.of(version) is family


class OwnError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("broken")


def test_a_failure_names_its_class_and_survives_a_broken_message() -> None:
    assert Failure.of(ValueError("no"), job()) == Failure("ValueError", "no")
    own = Failure.of(OwnError(), job())
    assert own.error_class.endswith(".OwnError")
    assert "could not be read" in own.message
