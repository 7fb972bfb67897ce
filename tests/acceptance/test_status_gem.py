"""The hash of sidekiq-status, for jobs that Python runs beside an app with that gem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_results import client, push
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import JOBS
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

GEM = ROOT / "tests/support/gems/sidekiq-status.rb"


@pytest.fixture(scope="module")
def running(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """An app with the gem, its sidecar, and a worker."""
    with Stage(redis_server, ruby_root, database=14) as stage:
        app = Path(stage.directory) / "app.rb"
        app.write_text(f'require "{JOBS}"\nrequire "{GEM}"\n')
        stage.start_sidecar(require=app)
        stage.start_worker(module="tests.support.tracked_tasks")
        wait_for(lambda: stage.redis.sismember("bridge:tracked", "gem:sidekiq-status"), "the worker to know")
        yield stage


@pytest.fixture
def stage(running: Stage) -> Stage:
    running.reset()
    return running


def status(stage: Stage, jid: str) -> dict[str, str]:
    found = stage.redis.hgetall(f"sidekiq:status:{jid}")
    return {name.decode(): value.decode() for name, value in found.items()}


def pushed_by_ruby(stage: Stage, name: str, *args: object) -> str:
    """As the gem's client middleware leaves it."""
    jid = f"{len(name):024x}"
    stage.redis.hset(f"sidekiq:status:{jid}", "status", "queued")
    return push(stage, name, *args, jid=jid)


@pytest.mark.parametrize(
    ("name", "args", "word"),
    [
        ("PlainJob", (), "complete"),  # not tracked
        ("AddJob", (1, 2), "complete"),
        ("FlakyJob", (), "retrying"),
        ("FailingJob", ("value", "x"), "failed"),
    ],
)
def test_the_end_of_a_native_job_is_in_the_gems_hash(
    stage: Stage, name: str, args: tuple[object, ...], word: str
) -> None:
    jid = pushed_by_ruby(stage, name, *args)
    wait_until_equal(lambda: status(stage, jid)["status"], word, "the end in the hash")
    assert 1700 < stage.redis.ttl(f"sidekiq:status:{jid}") <= 1800


def test_a_job_that_the_gem_does_not_know_gets_no_hash(stage: Stage) -> None:
    jid = push(stage, "PlainJob")
    stage.wait_counters(1, 0)
    assert status(stage, jid) == {}


def test_progress_of_a_tracked_job_is_there_too(stage: Stage) -> None:
    jid = push(stage, "SteppingJob", 1, "status")
    stage.ledger.wait_for("told", jid)
    found = status(stage, jid)
    assert (found["status"], found["at"], found["total"], found["pct_complete"]) == (
        "working",
        "1",
        "1",
        "100",
    )
    assert found["message"] == "step 1"
    stage.ledger.open_gate("status")
    wait_until_equal(lambda: status(stage, jid)["status"], "complete", "the end in the hash")


def test_a_tracked_push_from_python_is_queued_there(stage: Stage) -> None:
    result = client(stage).send_task("AddJob", args=[1, 2], countdown=3600, ignore_result=False)
    assert status(stage, result.id)["status"] == "queued"
    client(stage).control.revoke(result.id)
    wait_until_equal(lambda: status(stage, result.id)["status"], "stopped", "the end in the hash")
