"""Twin runs: the same payloads through Sidekiq's own process and through the bridge leave the same Redis.

Masked are times, delays, backtraces and what names a process. Everything is pushed at once, because stock
Sidekiq writes its counters only every five or ten seconds.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for, wait_until_equal

Version = tuple[int, ...]
WRAPPER = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
TIMES = {"failed_at", "retried_at", "enqueued_at", "created_at"}


def active_job(name: str) -> dict[str, Any]:
    inner = {"job_class": "GreetJob", "job_id": "u-1", "provider_job_id": None, "queue_name": "default",
             "priority": None, "arguments": [name], "executions": 0, "exception_executions": {},
             "locale": "en", "timezone": "UTC", "enqueued_at": "2026-01-01T00:00:00Z"}  # fmt: skip
    return {"class": WRAPPER, "wrapped": "GreetJob", "args": [inner]}


#: Scenario to payload; MILLISECONDS and SECONDS stand for times, filled in as the version writes them.
SCENARIOS: dict[str, dict[str, Any]] = {
    "done": {"class": "EchoJob", "args": [1, 1.0, 2**70, None, "é"]},
    "done without args": {"class": "EchoJob"},
    "done in modules": {"class": "Deeply::Nested::EchoJob", "args": []},
    "failing": {"class": "FailJob", "args": ["x"], "retry": True},
    "failing with its class's default": {"class": "FailJob", "args": ["x"]},
    "failing with its class's option": {"class": "RetryTwoJob", "args": ["x"]},
    "failing with a backtrace": {"class": "FailJob", "args": [], "retry": True, "backtrace": True},
    "failing with backtrace 0": {"class": "FailJob", "args": [], "retry": True, "backtrace": 0},
    "retried": {"class": "FailJob", "args": [], "retry": True, "retry_count": 3, "failed_at": "T"},
    "retried from the Web UI": {
        "class": "FailJob",
        "args": [],
        "retry": 3,
        "retry_count": -1,
        "failed_at": "T",
    },
    "exhausted": {"class": "FailJob", "args": [], "retry": True, "retry_count": 24, "failed_at": "T"},
    "exhausted at once": {"class": "HookJob", "args": ["30"], "retry": 0},
    "exhausted without a grave": {"class": "FailJob", "args": [], "retry": 0, "dead": False},
    "never retried": {"class": "FailJob", "args": [], "retry": False},
    "retry as text": {"class": "FailJob", "args": [], "retry": "7"},
    "retry null": {"class": "FailJob", "args": [], "retry": None},
    "killed by its hook": {"class": "HookJob", "args": ["kill"], "retry": True},
    "discarded by its hook": {"class": "HookJob", "args": ["discard"], "retry": True},
    "delayed by its hook": {"class": "HookJob", "args": ["500"], "retry": True},
    "with a broken hook": {"class": "HookJob", "args": ["raise"], "retry": True},
    "an unknown class": {"class": "NoSuchJob", "args": [], "retry": True},
    "retry_for over": {
        "class": "FailJob",
        "args": [],
        "retry": True,
        "retry_for": 5,
        "retry_count": 1,
        "failed_at": "T",
    },
    "retry_for not over": {
        "class": "FailJob",
        "args": [],
        "retry": True,
        "retry_for": 9999,
        "retry_count": 30,
        "failed_at": "T",
    },
    "retry_queue": {"class": "FailJob", "args": [], "retry": True, "retry_queue": "parked"},
    "an ActiveJob": active_job("Ada"),
    "a failing ActiveJob": {**active_job(""), "retry": True},
    "unknown fields": {"class": "FailJob", "args": [], "retry": True, "bid": "b", "zzz": {"a": [1.0, 2**80]}},
    "a failed_at in seconds": {
        "class": "FailJob",
        "args": [],
        "retry": 5,
        "retry_count": 0,
        "failed_at": 1.7e9 + 0.25,
    },
    "a failed_at in milliseconds": {
        "class": "FailJob",
        "args": [],
        "retry": 5,
        "retry_count": 0,
        "failed_at": 1_700_000_000_250,
    },
    "a long message": {"class": "LongMessageJob", "args": [], "retry": True},
    "invalid bytes in the message": {"class": "InvalidBytesJob", "args": [], "retry": True},
    "tags and other options": {
        "class": "FailJob",
        "args": [],
        "retry": True,
        "tags": ["a"],
        "log_level": "debug",
    },
}
HISTOGRAM = re.compile(rb"-\d+-\d+:\d+$")
MALFORMED = b'{"class":"EchoJob","args":['
BULK = 5
#: Fields in the order of the real client, which Sidekiq's poller sends every job through again.
SCHEDULED = {"retry": True, "queue": "default", "class": "FailJob", "args": ["scheduled"]}


@dataclass
class Twin:
    """One side when everything has been run."""

    stage: Stage
    dump: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    dead: list[bytes] = field(default_factory=list)
    counters: tuple[int, int] = (0, 0)
    queues: set[bytes] = field(default_factory=set)
    events: dict[str, list[str]] = field(default_factory=dict)


def jid_of(scenario: str) -> str:
    return f"{list(SCENARIOS).index(scenario):024x}"


def push_all(stage: Stage, sidekiq: Version, long_ago: float) -> int:
    """Number of jobs that will be counted."""
    stamp = int(long_ago * 1000) if sidekiq >= (8,) else long_ago
    for scenario, fields in SCENARIOS.items():
        payload = {name: stamp if value == "T" else value for name, value in fields.items()}
        stage.push_job({**payload, "queue": "default", "jid": jid_of(scenario), "created_at": stamp})
    stage.push_raw(MALFORMED)
    stage.redis.zadd("schedule", {json.dumps({**SCHEDULED, "jid": "scheduled", "created_at": stamp}): 1.0})
    stage.ruby.call("push_bulk", item={"class": "FailJob", "args": [["bulk", n] for n in range(BULK)]})
    return len(SCENARIOS) + 1 + BULK


def finished(stage: Stage, jobs: int) -> Twin:
    wait_until_equal(lambda: stage.counters()[0], jobs, "processed", 40)
    return Twin(
        stage,
        dump_of(stage.redis),
        [m for m in stage.redis.zrange("dead", 0, -1) if m == MALFORMED],
        stage.counters(),
        stage.redis.smembers("queues"),
        {jid_of(scenario): stage.ledger.events(jid_of(scenario)) for scenario in SCENARIOS},
    )


def dump_of(client: redis.Redis) -> dict[str, tuple[str, dict[str, Any]]]:
    """jid to (place, masked payload with the order of its fields)."""
    found = {}
    for place in ("retry", "dead", "schedule"):
        for member, score in client.zrange(place, 0, -1, withscores=True):
            if member != MALFORMED:
                payload = json.loads(member)
                found[payload["jid"]] = (place, masked(payload, score))
    return found


def masked(payload: dict[str, Any], score: float) -> dict[str, Any]:
    shown = dict(payload)
    for name in TIMES & payload.keys():
        recent = abs(float(payload[name]) / (1000 if payload[name] > 1e11 else 1) - time.time()) < 300
        shown[name] = (type(payload[name]).__name__, "now" if recent else payload[name])
    if "error_backtrace" in payload:
        shown["error_backtrace"] = type(payload["error_backtrace"]).__name__
    # Ruby 3.1 adds the line of source to a NameError, and objects show their address.
    shown["error_message"] = payload.get("error_message", "").splitlines()[:1]
    return {"fields in order": list(payload), **shown, "waits": score - time.time() > 0}


@pytest.fixture(scope="module")
def twins(redis_server: RedisServer, ruby_root: RubyRoot, sidekiq: Version) -> Iterator[tuple[Twin, Twin]]:
    """Stock Sidekiq's side and the bridge's, after all scenarios."""
    stock, bridge = (Stage(redis_server, ruby_root, database=database) for database in (2, 3))
    process = None
    for side in (stock, bridge):
        side.redis.flushdb()
    try:
        long_ago = round(time.time() - 1000, 3)
        options = ("-c", "3", "-q", "default")
        process = StockSidekiq(
            ruby_root, stock.place, stock.redis_url, *options, env={"TEST_POLL_INTERVAL": "1"}
        )
        bridge.start_sidecar()
        bridge.start_worker("-Q", "default", concurrency=3)
        jobs = push_all(stock, sidekiq, long_ago)
        push_all(bridge, sidekiq, long_ago)
        sides = finished(stock, jobs), finished(bridge, jobs)
        if sidekiq >= (7, 3, 3):
            cancel_both(stock, bridge)
        interrupt_both(stock, process, bridge, sidekiq)
        yield sides
    finally:
        if process is not None:
            process.stop()
        stock.stop()
        bridge.stop()


def cancel_both(stock: Stage, bridge: Stage) -> None:
    """cancel! an iterable job that runs; it looks every five seconds."""
    steps = b'{"class":"StepsJob","args":[900,0.02],"jid":"cancelled","retry":true,"queue":"default"}'
    for stage in (stock, bridge):
        stage.push_raw(steps)
    for stage in (stock, bridge):
        stage.ledger.wait_for("step", "cancelled")
        stage.ruby.call("cancel", jid="cancelled")
    for stage in (stock, bridge):
        stage.ledger.wait_for("cancelled", "cancelled", seconds=25)


def waiting_in_brpop(stage: Stage) -> list[str]:
    """Connections of this database that wait for a job as Sidekiq's threads do."""
    clients = stage.redis.client_list()
    here = [client for client in clients if client["db"] == str(stage.database)]
    return [client["addr"] for client in here if client["cmd"] == "brpop" and "b" in client["flags"]]


def interrupt_both(stock: Stage, process: StockSidekiq, bridge: Stage, sidekiq: Version) -> None:
    """TERM while one plain and, where there are such, one iterable job run."""
    for stage in (stock, bridge):
        stage.push_raw(b'{"class":"GateJob","args":["never"],"jid":"plain","retry":true}')
        if sidekiq >= (7, 3):
            stage.push_raw(
                b'{"class":"StepsJob","args":[900,0.02],"jid":"steps","retry":true,"queue":"default"}'
            )
    for stage in (stock, bridge):
        stage.ledger.wait_for("started", "plain")
        if sidekiq >= (7, 3):
            stage.ledger.wait_for("step", "steps")
    # Sidekiq pushes the job back while idle threads of its own wait in BRPOP: one took it, and it was lost.
    process.process.signal(signal.SIGTSTP)
    wait_for(lambda: not waiting_in_brpop(stock), "Sidekiq's idle threads to be quiet")
    process.process.signal(signal.SIGTERM)
    assert bridge.worker is not None
    bridge.worker.process.signal(signal.SIGTERM)
    for ended in (process.process, bridge.worker.process):
        ended.wait(30)
    wait_for(
        lambda: stock.queued, f"what Sidekiq was interrupted in to be back\n{process.process.log[-3000:]}"
    )
    wait_for(
        lambda: bridge.queued, f"what the bridge was interrupted in to be back\n{bridge.worker.log[-3000:]}"
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_twin_run_of_a_job_that_is(twins: tuple[Twin, Twin], scenario: str) -> None:
    stock, bridge = (side.dump.get(jid_of(scenario)) for side in twins)

    assert bridge == stock


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_twin_runs_tell_the_same_hooks_and_handlers(twins: tuple[Twin, Twin], scenario: str) -> None:
    stock, bridge = (side.events[jid_of(scenario)] for side in twins)

    # Death handlers run before the reply here, error handlers after; Sidekiq has them in the same order.
    assert bridge == stock


def test_twin_run_of_a_job_that_is_scheduled(twins: tuple[Twin, Twin]) -> None:
    stock, bridge = (side.dump["scheduled"] for side in twins)

    assert bridge == stock
    assert bridge[0] == "retry"


def test_twin_run_of_malformed_json(twins: tuple[Twin, Twin]) -> None:
    assert [side.dead for side in twins] == [[MALFORMED], [MALFORMED]]
    stock, bridge = (
        [line["note"] for line in side.stage.ledger.lines if line["event"] == "error" and not line["jid"]]
        for side in twins
    )
    assert bridge == stock
    assert "JSON::ParserError" in stock


def test_twin_run_of_a_bulk_push(twins: tuple[Twin, Twin]) -> None:
    stock, bridge = (
        {
            payload["args"][1]: (place, {name: value for name, value in payload.items() if name != "jid"})
            for place, payload in side.dump.values()
            if payload["args"][:1] == ["bulk"]
        }
        for side in twins
    )

    assert bridge == stock
    assert sorted(bridge) == list(range(BULK))


def test_twin_run_of_a_cancelled_iterable_job(twins: tuple[Twin, Twin], sidekiq: Version) -> None:
    if sidekiq < (7, 3, 3):
        pytest.skip("cancel! came with Sidekiq 7.3.3")
    stock, bridge = (set(side.stage.ledger.events("cancelled")) for side in twins)

    assert bridge == stock
    assert {"step", "cancelled"} <= bridge
    for side in twins:
        assert not side.stage.redis.exists("it-cancelled")
        assert b"cancelled" not in b"".join(side.stage.redis.lrange("queue:default", 0, -1))


def test_twin_runs_count_the_same(twins: tuple[Twin, Twin]) -> None:
    stock, bridge = twins

    assert bridge.counters == stock.counters
    assert bridge.queues == stock.queues


def test_twin_run_of_a_job_that_did_not_end_in_time(twins: tuple[Twin, Twin]) -> None:
    stock, bridge = (
        [p for p in side.stage.redis.lrange("queue:default", 0, -1) if b"plain" in p] for side in twins
    )

    assert bridge == stock == [b'{"class":"GateJob","args":["never"],"jid":"plain","retry":true}']


def test_twin_run_of_an_interrupted_iterable_job(twins: tuple[Twin, Twin], sidekiq: Version) -> None:
    if sidekiq < (7, 3):
        pytest.skip("iterable jobs came with Sidekiq 7.3")
    stock, bridge = (
        [json.loads(p) for p in side.stage.redis.lrange("queue:default", 0, -1) if b"steps" in p]
        for side in twins
    )
    for side in (*stock, *bridge):
        for name in TIMES & side.keys():
            side[name] = type(side[name]).__name__

    assert bridge == stock
    assert [list(p) for p in bridge] == [list(p) for p in stock]
    fields = [sorted(side.stage.redis.hkeys("it-steps")) for side in twins]
    assert fields[0] == fields[1]


def test_twin_runs_leave_the_same_keys(twins: tuple[Twin, Twin]) -> None:
    stock, bridge = (
        {
            key
            for key in side.stage.redis.scan_iter(count=1000)
            if not key.startswith((b"bridge:", b"j|", b"h|", b"process"))
            and key.count(b":") != 2
            and b"-" not in key.split(b":")[0].replace(b"it-", b"")
            # A histogram ends with day and minute; the two sides may run in different minutes.
            and not HISTOGRAM.search(key)
        }
        for side in twins
    )  # fmt: skip

    assert bridge == stock
