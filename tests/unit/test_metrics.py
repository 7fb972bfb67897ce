from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from bridge.sidekiq.outcome.dialect import MetricsFamily
from bridge.sidekiq.process.flushes import Command
from bridge.sidekiq.process.metrics import BUCKET_LIMITS_MS, JobMetrics

NOW = datetime(2025, 2, 4, 8, 3, 30, tzinfo=UTC).timestamp()


def flushed(family: MetricsFamily, *runs: tuple[str, int, bool], now: float = NOW) -> tuple[Command, ...]:
    metrics = JobMetrics()
    for job_class, elapsed_ms, failed in runs:
        metrics.record(job_class, elapsed_ms, failed)
    return metrics.drain(now, family)


def test_check_60_sidekiq_7_reads_these_keys() -> None:
    assert flushed(MetricsFamily.SEVEN, ("Foo::Bar", 5, False)) == (
        ("HINCRBY", "j|20250204|8:3", "Foo::Bar|ms", 5),
        ("HINCRBY", "j|20250204|8:3", "Foo::Bar|p", 1),
        ("EXPIRE", "j|20250204|8:3", 28_800),
        ("BITFIELD", "Foo::Bar-04-08:3", "OVERFLOW", "SAT", "INCRBY", "u16", "#0", 1),
        ("EXPIRE", "Foo::Bar-04-08:3", 28_800),
    )


def test_check_60_sidekiq_8_reads_these_keys() -> None:
    assert flushed(MetricsFamily.EIGHT, ("Foo::Bar", 5, False)) == (
        ("HINCRBY", "j|250204|8:03", "Foo::Bar|ms", 5),
        ("HINCRBY", "j|250204|8:03", "Foo::Bar|p", 1),
        ("EXPIRE", "j|250204|8:03", 28_800),
        ("HINCRBY", "j|250204|8:0", "Foo::Bar|ms", 5),
        ("HINCRBY", "j|250204|8:0", "Foo::Bar|p", 1),
        ("EXPIRE", "j|250204|8:0", 259_200),
        ("BITFIELD", "h|Foo::Bar-4-8:3", "OVERFLOW", "SAT", "INCRBY", "u16", "#0", 1),
        ("EXPIRE", "h|Foo::Bar-4-8:3", 28_800),
    )


def test_both_families_are_written_side_by_side_and_none_is_nothing() -> None:
    run = ("A", 5, False)
    both = flushed(MetricsFamily.BOTH, run)
    assert both == flushed(MetricsFamily.SEVEN, run) + flushed(MetricsFamily.EIGHT, run)
    assert flushed(MetricsFamily.NONE, run) == ()


@pytest.mark.parametrize(
    ("elapsed_ms", "bucket"), [(0, 0), (19, 0), (20, 1), (29, 1), (334_999, 24), (335_000, 25), (400_000, 25)]
)
def test_check_61_a_run_falls_into_the_first_bucket_it_is_shorter_than(elapsed_ms: int, bucket: int) -> None:
    commands = flushed(MetricsFamily.SEVEN, ("A", elapsed_ms, False))
    assert [command[6] for command in commands if command[0] == "BITFIELD"] == [f"#{bucket}"]


def test_check_61_there_are_26_buckets() -> None:
    assert len(BUCKET_LIMITS_MS) + 1 == 26


def test_check_62_a_failure_counts_without_time_and_histogram() -> None:
    commands = flushed(MetricsFamily.SEVEN, ("A", 500, True))
    assert commands == (
        ("HINCRBY", "j|20250204|8:3", "A|p", 1),
        ("HINCRBY", "j|20250204|8:3", "A|f", 1),
        ("EXPIRE", "j|20250204|8:3", 28_800),
    )


def test_nothing_recorded_writes_nothing() -> None:
    assert flushed(MetricsFamily.BOTH) == ()


def test_a_class_that_would_break_the_reader_is_left_out() -> None:
    assert flushed(MetricsFamily.BOTH, ("A|B", 5, False)) == ()


def test_a_flush_empties_the_buffer() -> None:
    metrics = JobMetrics()
    metrics.record("A", 5, False)
    assert metrics.drain(NOW, MetricsFamily.SEVEN)
    assert metrics.drain(NOW, MetricsFamily.SEVEN) == ()


def test_no_run_is_lost_between_threads() -> None:
    metrics = JobMetrics()
    threads = [
        threading.Thread(target=lambda: [metrics.record("A", 1, False) for _ in range(2000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ("HINCRBY", "j|20250204|8:3", "A|p", 8000) in metrics.drain(NOW, MetricsFamily.SEVEN)
