"""Limits in processes of Sidekiq beside the bridge, by the gem's middleware (``sidekiq-bridge/limits``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import census
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for

APP = ROOT / "tests/support/ruby/limited.rb"
LIMITS = [
    {"class": "SleepJob", "concurrency": 3},
    {"class": "LimitedFailJob", "concurrency": 1},
    {"class": "RatedJob", "rate": "5/s"},
]
DECLARED = {"BRIDGE_LIMITS": json.dumps(LIMITS)}
PLACES = "bridge:places:SleepJob:all"

Start = Callable[..., StockSidekiq]


@pytest.fixture
def stage(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=12, jobs=APP) as made:
        yield made
        census.assert_keys_clean(made.redis)


@pytest.fixture
def start(stage: Stage) -> Iterator[Start]:
    """Starts a process of Sidekiq with the gem's middleware."""
    running: list[StockSidekiq] = []

    def begin(*arguments: str, env: dict[str, str] | None = None) -> StockSidekiq:
        settings = {**DECLARED, **(env or {})}
        made = StockSidekiq(
            stage.root, stage.place, stage.redis_url, "-c", "5", *arguments, jobs=APP, env=settings
        )
        running.append(made)
        return made

    yield begin
    stage.ledger.open_gate("all")
    for process in running:
        process.stop()


def push(stage: Stage, count: int, job_class: str = "SleepJob", *args: Any, **fields: Any) -> list[str]:
    return [
        stage.push_job({"class": job_class, "args": list(args), "retry": True, **fields})
        for _ in range(count)
    ]


def test_processes_of_sidekiq_keep_one_limit_together(stage: Stage, start: Start) -> None:
    for _ in range(2):
        start()
    jids = push(stage, 40, "SleepJob", 0.05)

    wait_for(lambda: stage.ledger.count("done") == 40, "all jobs", 60)

    assert stage.ledger.most_at_once() == 3
    assert sorted(line["jid"] for line in stage.ledger.lines if line["event"] == "done") == sorted(jids)
    wait_for(lambda: not stage.redis.exists(PLACES) and not stage.redis.zcard("schedule"), "no trace")


def test_a_job_that_waits_is_in_schedule_and_passed_no_middleware_and_counts_nothing(
    stage: Stage, start: Start
) -> None:
    start()
    push(stage, 3, "SleepJob", 3)
    wait_for(lambda: stage.ledger.count("started") == 3, "three that run")
    (waiting,) = push(stage, 1, "SleepJob", 0.01)

    wait_for(lambda: stage.redis.zcard("schedule") == 1, "the fourth in schedule")
    assert stage.only("schedule")["jid"] == waiting
    assert stage.ledger.events(waiting) == []

    wait_for(lambda: stage.ledger.count("done") == 4, "all jobs", 30)
    assert stage.ledger.events(waiting) == ["seen", "started", "done"]
    stage.wait_counters(4, 0)


def test_waiting_jobs_keep_their_order_and_count_by_their_own_limit_and_key(
    stage: Stage, start: Start
) -> None:
    start()
    own = {"bridge_limit": {"concurrency": 1, "key": "args.1"}}
    jids = push(stage, 1, "OwnLimitJob", 1, "one customer", **own)
    stage.ledger.wait_for("started", jids[0])
    for number in range(1, 9):
        jids += push(stage, 1, "OwnLimitJob", 0.01, "one customer", **own)
        wait_for(lambda: stage.redis.zcard("schedule") == number, "the job in schedule")  # noqa: B023
    (other,) = push(stage, 1, "OwnLimitJob", 0.01, "another", **own)

    wait_for(lambda: stage.ledger.count("done") == 10, "all jobs", 60)

    assert stage.ledger.most_at_once(lambda line: line["jid"] != other) == 1
    started = [line["jid"] for line in stage.ledger.lines if line["event"] == "started"]
    assert [jid for jid in started if jid != other] == jids
    assert started.index(other) == 1


def test_a_failed_job_frees_its_place(stage: Stage, start: Start) -> None:
    start()
    push(stage, 3, "LimitedFailJob")
    wait_for(lambda: stage.redis.zcard("retry") == 3, "three retries", 30)
    stage.wait_counters(3, 3)
    wait_for(lambda: not stage.redis.exists("bridge:places:LimitedFailJob:all"), "no place in use")


def test_the_places_of_a_process_that_is_killed_come_free(stage: Stage, start: Start) -> None:
    first = start()
    push(stage, 3, "SleepJob", 600)
    wait_for(lambda: stage.ledger.count("started") == 3, "three that run")
    second = start()
    (waiting,) = push(stage, 1, "SleepJob", 0.01)
    wait_for(lambda: stage.redis.zcard("schedule") == 1, "the fourth in schedule")

    first.process.kill()

    stage.ledger.wait_for("done", waiting, seconds=30)
    assert second.process.is_alive


def test_a_long_job_keeps_its_place(stage: Stage, start: Start) -> None:
    """A place ends after 15 s unless its process renews it."""
    start()
    push(stage, 3, "SleepJob", 22)
    wait_for(lambda: stage.ledger.count("started") == 3, "three that run")
    push(stage, 1, "SleepJob", 0.01)
    wait_for(lambda: stage.ledger.count("done") == 4, "all jobs", 40)
    assert stage.ledger.most_at_once() == 3


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ('[{"class": "SleepJob", "concurrency": 0}]', "limit 1: concurrency must be a whole number from 1"),
        ('[{"class": "SleepJob", "rate": "fast"}]', "is not a rate"),
        ("{", "BRIDGE_LIMITS is not JSON"),
    ],
)
def test_a_wrong_declaration_ends_the_start_in_a_sentence(
    stage: Stage, start: Start, wrong: str, sentence: str
) -> None:
    with pytest.raises(AssertionError) as ended:
        start(env={"BRIDGE_LIMITS": wrong})
    assert sentence in str(ended.value)


# -- beside the bridge


def test_the_bridge_and_sidekiq_keep_one_limit_together(stage: Stage, start: Start) -> None:
    stage.start_sidecar(env=DECLARED)
    stage.start_worker("-c", "10", env=DECLARED)
    # Sidekiq, which hands a free place on within its process, may run all jobs of two idle processes.
    jids = push(stage, 3, "SleepJob", 3)
    wait_for(lambda: stage.ledger.count("started") == 3, "three that the bridge runs")
    start()
    jids += push(stage, 57, "SleepJob", 0.1)

    wait_for(lambda: stage.ledger.count("done") == 60, "all jobs", 60)

    assert stage.ledger.most_at_once() == 3
    done = [line for line in stage.ledger.lines if line["event"] == "done"]
    assert sorted(line["jid"] for line in done) == sorted(jids)
    assert len({line["pid"] for line in done}) == 2, "both have run some"
    stage.wait_counters(60, 0)
    wait_for(lambda: not stage.redis.exists(PLACES) and not stage.redis.zcard("schedule"), "no trace")


def test_a_place_is_taken_once_in_the_sidecar_of_an_app_with_the_gem(stage: Stage) -> None:
    """The gem's middleware would wait for the place that the worker has taken."""
    stage.start_sidecar(env=DECLARED)
    stage.start_worker("-c", "10", env=DECLARED)
    jids = push(stage, 9, "SleepJob", 0.05)
    wait_for(lambda: stage.ledger.count("done") == 9, "all jobs", 30)
    assert [stage.ledger.count("done", jid) for jid in jids] == [1] * 9
    assert stage.ledger.most_at_once() == 3
    stage.wait_counters(9, 0)


def test_stock_sidekiq_runs_what_waits_when_no_worker_of_the_bridge_is_left(
    stage: Stage, start: Start
) -> None:
    stage.start_sidecar(env=DECLARED)
    worker = stage.start_worker("-c", "10", env=DECLARED)
    push(stage, 8, "SleepJob", 2)
    wait_for(lambda: stage.redis.zcard("schedule") == 5, "five that wait")
    start()
    worker.stop()

    wait_for(lambda: stage.ledger.count("done") >= 8, "all jobs", 60)
    assert stage.ledger.most_at_once() <= 3


def test_processes_of_sidekiq_alone_keep_a_rate_to_the_moment(stage: Stage, start: Start) -> None:
    """They looked at the line each half second, and lost the starts between: 5/s gave two a second."""
    for _ in range(2):
        start()
    push(stage, 21, "RatedJob")

    wait_for(lambda: stage.ledger.count("done") == 21, "all jobs", 60)

    began = sorted(line["at"] for line in stage.ledger.lines if line["event"] == "done")
    within = [sum(first <= at < first + 1 for at in began) for first in began]
    assert max(within) <= 6
    assert began[-1] - began[0] < 20 * 0.2 * 1.05 + 0.2
