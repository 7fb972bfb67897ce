"""Several Sidekiq versions and the bridge on one Redis, under one limit: ``scripts/conformance --mixed``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.test_limits_beside_ruby import APP
from tests.support.command import Bridge
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import bridge_environment

#: Change-roots with the checkout and this machine's /tmp in them.
ROOTS = [RubyRoot(Path(path)) for path in os.environ.get("TEST_MIXED_ROOTS", "").split(":") if path]
CAP, JOBS = 3, 400
DECLARED = {"BRIDGE_LIMITS": json.dumps([{"class": "SleepJob", "concurrency": CAP}])}

pytestmark = pytest.mark.skipif(not ROOTS, reason="TEST_MIXED_ROOTS names no change-roots")


@pytest.fixture
def stage(redis_server: RedisServer) -> Iterator[Stage]:
    with Stage(redis_server, RubyRoot(Path("/")), database=12, jobs=APP) as made:
        yield made


def test_all_versions_and_the_bridge_keep_one_limit_while_processes_are_killed(stage: Stage) -> None:
    stage.start_sidecar(env=DECLARED)
    stage.start_worker("-c", "10", env=DECLARED)
    stocks = [
        StockSidekiq(root, stage.place, stage.redis_url, "-c", "10", jobs=APP, env=DECLARED)
        for root in (stage.root, *ROOTS)
    ]
    try:
        # Processes of Sidekiq read the queue default alone: jobs in high are the bridge's.
        queues = ["high" if number % 4 == 0 else "default" for number in range(JOBS)]
        jids = [
            stage.push_job({"class": "SleepJob", "args": [0.1], "retry": True, "queue": name}, name)
            for name in queues
        ]
        wait_for(lambda: ran(stage) >= {each.process.pid for each in stocks}, "each process to run some", 60)
        stocks[-1].process.kill()
        wait_for(
            lambda: lost(stage, jids) <= 10 and not stage.queued, "all but those of the killed process", 90
        )
        wait_for(lambda: not stage.redis.zcard("schedule"), "no job to wait", 60)
    finally:
        for each in stocks[:-1]:
            each.stop()

    killed = [jid for jid in jids if stage.ledger.events(jid)[-1:] == ["started"]]
    assert most_at_once(stage, killed) <= CAP
    assert len(killed) <= CAP, "Sidekiq loses what a killed process ran"
    assert len(ran(stage)) == len(stocks) + 1, "the sidecar has run some too"


def test_all_versions_run_what_waits_when_all_workers_of_the_bridge_stop(stage: Stage) -> None:
    stage.start_sidecar(env=DECLARED)
    workers = [stage.make_worker("-c", "10", name=f"bridge{number}", env=DECLARED) for number in range(2)]
    jids = [stage.push_job({"class": "SleepJob", "args": [1.0], "retry": True}) for _ in range(30)]
    wait_for(lambda: stage.redis.zcard("schedule") >= 20, "jobs that wait", 30)
    stocks = [
        StockSidekiq(root, stage.place, stage.redis_url, "-c", "10", jobs=APP, env=DECLARED)
        for root in (stage.root, *ROOTS)
    ]
    try:
        for worker in workers:
            assert worker.terminate() == 0
        wait_for(lambda: lost(stage, jids) == 0, "all jobs", 90)
        wait_for(lambda: not stage.redis.zcard("schedule"), "no job to wait", 30)
    finally:
        for each in stocks:
            each.stop()
    assert stage.ledger.most_at_once() <= CAP
    assert len(ran(stage) & {each.process.pid for each in stocks}) >= 2, "processes of Sidekiq have run some"


def ran(stage: Stage) -> set[int]:
    return {line["pid"] for line in stage.ledger.lines if line["event"] == "done"}


def lost(stage: Stage, jids: list[str]) -> int:
    done = {line["jid"] for line in stage.ledger.lines if line["event"] == "done"}
    return len(set(jids) - done)


def most_at_once(stage: Stage, killed: list[str]) -> int:
    """Jobs of the killed process have no end in the ledger: they count until its kill, and not after."""
    return stage.ledger.most_at_once(lambda line: line["jid"] not in killed)


def test_a_class_moves_beside_all_versions_on_one_queue(redis_server: RedisServer) -> None:
    """Given Sidekiq 6.4, 7.3 and 8.1 on the queue, each job runs once, and a retry of Ruby's stays there."""
    with Stage(redis_server, RubyRoot(Path("/")), database=13) as stage:
        sidecar = stage.start_sidecar()
        bridge = Bridge(bridge_environment(stage.redis_url, sidecar.url))
        worker = stage.start_worker(module="tests.support.moving_tasks", concurrency=5, name="mixed-move")
        bridge("move", "FailJob", "--percent", "50", "--no-guard").well()
        wait_for(lambda: "FailJob moves: 50 %" in worker.log, "the worker to heed it")
        stocks = [
            StockSidekiq(root, stage.place, stage.redis_url, "-c", "2", "-q", "default")
            for root in (stage.root, *ROOTS)
        ]
        try:
            jids = [stage.push_job({"class": "FailJob", "args": [], "retry": True}) for _ in range(JOBS)]
            wait_until_equal(lambda: stage.redis.zcard("retry"), JOBS, "retries", 60)
            first = sides(stage)
            assert first.keys() == set(jids)
            assert {len(each) for each in first.values()} == {1}
            assert {pid for each in first.values() for pid, _ in each} > {each.process.pid for each in stocks}

            bridge("move", "FailJob", "--percent", "100", "--no-guard").well()
            wait_for(lambda: "FailJob moves: 100 %" in worker.log, "the worker to heed it")
            stage.make_due("retry")
            wait_until_equal(
                lambda: sum(map(len, sides(stage).values())), 2 * JOBS, "the second attempts", 90
            )
            seconds = [[language for _, language in each] for each in sides(stage).values()]
            assert {len(each) for each in seconds} == {2}
            assert ["ruby", "python"] not in seconds
            row = bridge("moves", "--json").well().json[0]
            assert row["python"]["runs"] + row["ruby"]["runs"] < 2 * JOBS
        finally:
            for each in stocks:
                each.stop()


def sides(stage: Stage) -> dict[str, list[tuple[int, str]]]:
    """The runs of each job: process and language."""
    words = {"python": "python", "failed": "ruby"}
    found: dict[str, list[tuple[int, str]]] = {}
    for line in stage.ledger.lines:
        if line["event"] in words:
            found.setdefault(line["jid"], []).append((line["pid"], words[line["event"]]))
    return found
