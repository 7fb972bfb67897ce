"""Checks 60 to 62: the Metrics page. Sidekiq 6.4 has none; 7 and 8 each have keys of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from bridge.sidekiq.outcome.dialect import MetricsFamily
from bridge.sidekiq.process.metrics import JobMetrics
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for

Version = tuple[int, ...]
FLUSH_AT = datetime(2025, 2, 4, 8, 3, 20, tzinfo=UTC)

RECORD_WITH_RUBY = """
require "sidekiq/job_retry"
require "sidekiq/metrics/tracking"
tracker = Sidekiq::Metrics::ExecutionTracker.new(Sidekiq.default_configuration)
{runs}
tracker.flush(Time.utc(2025, 2, 4, 8, 3, 20))
"""


@pytest.fixture(autouse=True)
def _has_metrics(sidekiq: Version) -> None:
    if sidekiq < (7,):
        pytest.skip("Sidekiq 6.4 has no metrics")


def family(sidekiq: Version) -> MetricsFamily:
    return MetricsFamily.SEVEN if sidekiq < (8,) else MetricsFamily.EIGHT


def metric_keys(client: redis.Redis) -> dict[bytes, Any]:
    """Key to content and time to live."""
    found: dict[bytes, Any] = {}
    for key in client.scan_iter(count=1000):
        if b"|" in key or b"-04-" in key:
            value = client.hgetall(key) if client.type(key) == b"hash" else client.get(key)
            found[key] = (value, round(client.ttl(key), -1))
    return found


def test_check_60_a_flush_writes_the_keys_and_values_that_the_gem_writes(
    stage: Stage, sidekiq: Version
) -> None:
    # A run of a few milliseconds, one failure, one class in modules; Ruby first.
    stage.ruby.evaluate(
        RECORD_WITH_RUBY.format(
            runs="""
            tracker.track("queue", "Foo::Bar") { nil }
            begin; tracker.track("queue", "Foo::Bar") { raise "x" }; rescue; end
            """
        )
    )
    by_ruby = metric_keys(stage.redis)
    minute = b"j|20250204|8:3" if sidekiq < (8,) else b"j|250204|8:03"
    elapsed = int(by_ruby[minute][0].get(b"Foo::Bar|ms", 0))
    stage.redis.delete(*by_ruby)

    # Then the bridge, at the same second.
    ours = JobMetrics()
    ours.record("Foo::Bar", elapsed, failed=False)
    ours.record("Foo::Bar", 0, failed=True)
    for command in ours.drain(FLUSH_AT.timestamp(), family(sidekiq)):
        stage.redis.execute_command(*command)

    by_bridge = metric_keys(stage.redis)
    expected = {b"j|20250204|8:3", b"Foo::Bar-04-08:3"}
    if sidekiq >= (8,):
        expected = {b"j|250204|8:03", b"j|250204|8:0", b"h|Foo::Bar-4-8:3"}
    assert set(by_bridge) == expected
    zero = {b"Foo::Bar|ms": b"0"}  # HINCRBY by 0 is not worth a command
    assert {k: (without(v, zero), t) for k, (v, t) in by_bridge.items()} == {
        k: (without(v, zero), t) for k, (v, t) in by_ruby.items()
    }


def without(value: Any, dropped: dict[bytes, bytes]) -> Any:
    if isinstance(value, dict):
        return {name: text for name, text in value.items() if dropped.get(name) != text}
    return value


def test_check_61_each_duration_falls_into_the_gems_own_bucket(stage: Stage, sidekiq: Version) -> None:
    edges = [20, 30, 45, 65, 100, 150, 225, 335, 500, 750, 1100, 1700, 2500, 3800, 5750, 8500, 13000]
    durations = [0, 400_000, *(d for edge in edges for d in (edge - 1, edge, edge + 1))]
    ruby_buckets = stage.ruby.evaluate(
        f"""{durations}.map do |ms|
          histogram = Sidekiq::Metrics::Histogram.new("X")
          histogram.record_time(ms)
          histogram.buckets.each_with_index.find {{ |count, _| count.value > 0 }}.last
        end"""
    )

    assert [bucket_of(ms, sidekiq) for ms in durations] == ruby_buckets
    assert (bucket_of(19, sidekiq), bucket_of(20, sidekiq), bucket_of(400_000, sidekiq)) == (0, 1, 25)


def bucket_of(ms: int, sidekiq: Version) -> int:
    metrics = JobMetrics()
    metrics.record("X", ms, failed=False)
    (command,) = [c for c in metrics.drain(0, family(sidekiq)) if c[0] == "BITFIELD"]
    return int(str(command[6]).removeprefix("#"))


def test_check_61_a_bucket_stays_at_65535(stage: Stage, sidekiq: Version) -> None:
    metrics = JobMetrics()
    for _ in range(70_000):
        metrics.record("X", 1, failed=False)

    for command in metrics.drain(FLUSH_AT.timestamp(), family(sidekiq)):
        stage.redis.execute_command(*command)

    key = "X-04-08:3" if sidekiq < (8,) else "h|X-4-8:3"
    assert stage.redis.bitfield(key).get("u16", 0).execute() == [65_535]


def test_check_62_a_failure_adds_no_time_and_the_key_is_the_wrapped_class(stage: Stage) -> None:
    # What the test before did may still be in the worker's memory: the next beat writes it.
    beat = stage.redis.hget(stage.worker.identity, "beat")
    wait_for(lambda: stage.redis.hget(stage.worker.identity, "beat") != beat, "the next beat")
    stage.reset()
    stage.ruby.push("SleepJob", 0.2)
    stage.ruby.push("SleepJob", "no number", retry=False)
    stage.ruby.call("active_job", job="GreetJob", args=["Ada"])
    stage.ruby.push("NativeFailJob", retry=False)
    stage.wait_counters(4, 2)

    read = stage.ruby.call
    slow = wait_for(
        lambda: ((m := read("metrics", job="SleepJob"))["totals"] or {}).get("p") == 2 and m, "the beats"
    )

    assert (slow["totals"]["p"], slow["totals"]["f"]) == (2, 1)
    assert 200 <= slow["totals"]["ms"] < 1000
    assert sum(slow["histogram"]) == 1
    wait_for(lambda: (read("metrics", job="GreetJob")["totals"] or {}).get("p") == 1, "the wrapped class")
    native = read("metrics", job="NativeFailJob")
    assert (native["totals"]["p"], native["totals"]["f"], native["totals"].get("ms") or 0) == (1, 1, 0)
    body = stage.ruby.get("/metrics").assert_fine().body
    assert "SleepJob" in body
    assert "GreetJob" in body
    stage.ruby.get("/metrics/SleepJob").assert_fine()


def test_the_time_is_that_of_the_run_and_not_of_waiting_for_a_slot_of_the_sidecar(narrow: Stage) -> None:
    # A page once showed jobs of 20 ms at 200, because the worker had more slots than its sidecar.
    for _ in range(4):
        narrow.ruby.push("SleepJob", 0.4)

    narrow.wait_counters(4, 0)

    # A beat may fall between two of the jobs: the page then has the rest with the next.
    found = wait_for(
        lambda: ((m := narrow.ruby.call("metrics", job="SleepJob"))["totals"] or {}).get("p") == 4 and m,
        "the beats",
    )
    assert 1600 <= found["totals"]["ms"] < 2400
    assert max(found["histogram"]) >= 3, "jobs of one length stand in one bar"


@pytest.fixture
def narrow(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """A worker with four slots and a sidecar with one."""
    with redis_server.client(10) as client:
        client.flushdb()
    stage = Stage(redis_server, ruby_root, database=10)
    try:
        stage.start_sidecar(threads=1)
        stage.start_worker(concurrency=4)
        yield stage
    finally:
        stage.stop()
