"""Gems that limit an app's jobs: their limits hold beside the bridge. The worker refused to start there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import census
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for

APP = ROOT / "tests/support/ruby/limiting_gems.rb"


@pytest.fixture
def stage(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=13, jobs=APP) as made:
        yield made


def push(stage: Stage, count: int, job_class: str, *args: Any, queue: str = "default") -> list[str]:
    item = {"class": job_class, "args": list(args), "retry": True, "queue": queue}
    return [stage.push_job(item, queue) for _ in range(count)]


def test_a_job_over_a_limit_of_sidekiq_throttled_goes_behind_its_queue_and_spends_no_attempt(
    stage: Stage,
) -> None:
    """Five jobs ran at once. Sidekiq ran one, and the log was silent."""
    stage.start_sidecar()
    stage.start_worker("-c", "8")
    push(stage, 12, "ThrottledJob", 0.1)
    echoes = push(stage, 4, "EchoJob")

    wait_for(lambda: stage.ledger.count("done") == 16, "all jobs", 60)

    throttled = {"class": "ThrottledJob"}
    assert stage.ledger.most_at_once(lambda line: line["class"] == throttled["class"]) == 2
    assert all(stage.ledger.events(jid) == ["done"] for jid in echoes)
    stage.wait_counters(16, 0)
    assert stage.redis.zcard("retry") == 0


def test_a_job_that_the_gem_schedules_keeps_its_jid_and_waits_in_one_place(stage: Stage) -> None:
    stage.start_sidecar()
    stage.start_worker()
    first, second = push(stage, 2, "PatientThrottledJob", 1.0)

    entry = stage.only("schedule")
    assert entry["jid"] in (first, second)
    assert entry["queue"] == "low"
    assert 0 < stage.score("schedule") - time.time() < 3
    census.assert_each_in_one_place(stage.redis)

    wait_for(lambda: stage.ledger.count("done") == 2, "both jobs", 30)
    assert stage.ledger.most_at_once() == 1
    stage.wait_counters(2, 0)


def test_a_queue_whose_jobs_are_all_held_back_is_left_alone_for_a_moment(stage: Stage) -> None:
    """Each job came back at once, was claimed and sent to Ruby, and came back again, without a pause."""
    stage.start_sidecar()
    stage.start_worker("-c", "8")
    push(stage, 2, "ThrottledJob", 10)
    wait_for(lambda: stage.ledger.count("started") == 2, "two that run")
    push(stage, 10, "ThrottledJob", 0.01)

    # The gem's cooldown begins after 20 jobs in a row, which a busy machine reaches late.
    wait_for(lambda: pushes_in_two_seconds(stage) < 200, "the queue to be left alone", 8)
    assert stage.ledger.count("done") == 0
    wait_for(lambda: stage.ledger.count("done") == 12, "all jobs", 30)


def pushes_in_two_seconds(stage: Stage) -> int:
    def pushes() -> int:
        return int(stage.redis.info("commandstats")["cmdstat_lpush"]["calls"])

    before = pushes()
    time.sleep(2)
    return pushes() - before


@pytest.mark.parametrize("kind", ["limits", "process_limits"])
def test_the_limits_of_sidekiq_limit_fetch_in_sidekiq_yml_hold_for_a_worker(stage: Stage, kind: str) -> None:
    file = stage.place.path / "sidekiq.yml"
    file.write_text(json.dumps({kind: {"low": 1}}))
    stage.start_sidecar(arguments=("--config", str(file)))
    stage.start_worker("-c", "8")
    wait_for(lambda: "sidekiq-limit_fetch limits low" in stage.worker.log, "the worker to know", 15)
    low = push(stage, 6, "SleepJob", 0.1, queue="low")
    push(stage, 6, "SleepJob", 0.3, queue="high")

    wait_for(lambda: stage.ledger.count("done") == 12, "all jobs", 30)

    assert stage.ledger.most_at_once(lambda line: line["jid"] in low) == 1
    assert stage.ledger.most_at_once(lambda line: line["jid"] not in low) > 1
    assert stage.redis.get(f"limit_fetch:{kind.removesuffix('s')}:low") == b"1"
