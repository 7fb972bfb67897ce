"""Batches over both languages, with the app's Sidekiq: its client, its processes, its Web UI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chord, group
from celery.exceptions import TaskRevokedError

from bridge.batches import reader
from bridge.celery import Bridge, make_app
from bridge.settings import load as load_settings
from tests.support import redis_users
from tests.support.doc_blocks import blocks
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_until_equal

JOBS = ROOT / "tests/support/ruby/batch_jobs.rb"
LIBRARY = ROOT / "sidecar/lib"
PAGES = ("docs/batches.md", "docs/how-to/run-1000-jobs-and-then-one.md")


@pytest.fixture(scope="module")
def bridge_stage(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """A bridge whose app has batches, and a client of that app."""
    with Stage(redis_server, ruby_root, database=6, jobs=JOBS) as stage:
        stage.ruby.evaluate(
            f"$LOAD_PATH.unshift({json.dumps(str(LIBRARY))}); load {json.dumps(str(JOBS))}; nil"
        )
        start(stage)
        yield stage


def start(stage: Stage) -> None:
    stage.start_sidecar()
    stage.start_worker(module="tests.support.batch_tasks")


@pytest.fixture
def stage(bridge_stage: Stage) -> Stage:
    bridge_stage.reset()
    return bridge_stage


@pytest.fixture
def app(stage: Stage) -> Bridge:
    url = redis_users.for_bridge(stage.redis_url)
    return make_app(load_settings({"BRIDGE_REDIS_URL": url, "BRIDGE_SIDEKIQ_VERSION": stage.ruby.version}))


def done(stage: Stage, job_class: str, event: str = "done") -> list[list[Any]]:
    """Arguments of the jobs of a class that have ended so."""
    return [
        line["args"] for line in stage.ledger.lines if (line["class"], line["event"]) == (job_class, event)
    ]


def wait_state(stage: Stage, bid: str, state: str) -> None:
    def found() -> str:
        status = reader.status(stage.redis, bid)
        return "gone" if status is None else status.state

    wait_until_equal(found, state, f"the state of batch {bid}")


def test_a_batch_that_ruby_pushes_has_jobs_and_callbacks_of_both_languages(stage: Stage) -> None:
    bid = stage.ruby.evaluate("""
      batch = SidekiqBridge::Batch.new(description: "both")
      batch.on_success("ReportJob", "all done").on_success(EchoJob, "in Ruby too").on_death("AlertJob")
      batch.jobs do
        3.times { |i| ImportRowJob.perform_async(i) }
        AddingJob.perform_async
        Sidekiq::Client.push("class" => "NativeEchoJob", "args" => ["native"])
        Sidekiq::Client.push("class" => "NativeAddingJob", "args" => [])
      end
      batch.bid
    """)
    wait_until_equal(lambda: done(stage, "ReportJob"), [["all done"]], "the callback in Python")
    wait_until_equal(lambda: done(stage, "EchoJob"), [["in Ruby too"]], "the callback in Ruby")
    assert sorted(map(str, done(stage, "ImportRowJob"))) == ["['added']", "['added']", "[0]", "[1]", "[2]"]
    assert not done(stage, "AlertJob")
    wait_state(stage, bid, "done")
    assert stage.ruby.evaluate(
        f"SidekiqBridge::Batch.find('{bid}').status.then {{ |s| [s.state, s.total] }}"
    ) == ["done", 8]


def test_a_batch_that_python_pushes_tells_the_death_of_a_ruby_job_and_of_a_native_one(
    app: Bridge, stage: Stage
) -> None:
    for name in ("FailJob", "NativeFailJob"):
        batch = (
            app.Batch().on_death("AlertJob", name).on_complete("ReportJob", name).on_success("EchoJob", name)
        )
        with batch.jobs():
            app.send_task(name, args=["no luck"], sidekiq_options={"retry": 0})
            app.send_task("ImportRowJob", args=[1])
        wait_until_equal(lambda name=name: [name] in done(stage, "AlertJob"), True, "on_death")
        wait_until_equal(lambda name=name: [name] in done(stage, "ReportJob"), True, "on_complete")
        assert batch.status().dead == 1
    assert not done(stage, "EchoJob")


def test_a_job_that_a_person_kills_in_the_web_ui_is_dead_to_its_batch(app: Bridge, stage: Stage) -> None:
    batch = app.Batch().on_death("AlertJob", "killed")
    with batch.jobs():
        app.send_task("FailJob", args=["x"], sidekiq_options={"retry": 5})
    jid = stage.only("retry")["jid"]
    assert not done(stage, "AlertJob")
    stage.ruby.post(f"/retries/{stage.score('retry')!r}-{jid}", "/retries", {"kill": "Kill"})
    wait_until_equal(lambda: done(stage, "AlertJob"), [["killed"]], "on_death")


WAYS_TO_DELETE = {
    "one of a queue": "Sidekiq::Queue.new('unserved').first.delete",
    "a queue": "Sidekiq::Queue.new('unserved').clear",
    "one of the schedule": "Sidekiq::ScheduledSet.new.first.delete",
    "the schedule": "Sidekiq::ScheduledSet.new.clear",
}


@pytest.mark.parametrize("way", WAYS_TO_DELETE)
def test_a_job_that_a_person_deletes_is_dead_to_its_batch_and_to_who_waits(
    app: Bridge, stage: Stage, way: str
) -> None:
    """The batch waited until a person forgot the job, and ``get`` waited without end."""
    options = {"countdown": 3600} if "schedule" in way else {"queue": "unserved"}
    batch = app.Batch().on_death("AlertJob", way).on_complete("ReportJob", way)
    with batch.jobs():
        job = app.send_task("ImportRowJob", args=[1], ignore_result=False, **options)
        app.send_task("ImportRowJob", args=[2])
    stage.ruby.evaluate(f"{WAYS_TO_DELETE[way]}; nil")
    wait_until_equal(lambda: done(stage, "AlertJob"), [[way]], "on_death")
    wait_until_equal(lambda: done(stage, "ReportJob"), [[way]], "on_complete")
    with pytest.raises(TaskRevokedError, match="deleted by a person"):
        job.get(timeout=5)


def test_a_callback_whose_class_does_not_exist_fails_as_any_other_job(app: Bridge, stage: Stage) -> None:
    batch = app.Batch().on_success("NoSuchJob", 1)
    with batch.jobs():
        app.send_task("ImportRowJob", args=[1])
    callback = stage.only("retry")
    assert (callback["class"], callback["args"], callback["error_class"]) == ("NoSuchJob", [1], "NameError")
    assert batch.status().state == "done"


def test_a_batch_completes_after_the_roll_back_to_stock_sidekiq(app: Bridge, stage: Stage) -> None:
    """Given a batch whose first half the bridge has run, when Sidekiq takes over, its callbacks follow."""
    batch = app.Batch()
    for event, name in (("complete", "OtherJob"), ("success", "EchoJob"), ("death", "AlertJob")):
        getattr(batch, f"on_{event}")(name, event)
    with batch.jobs():
        for number in range(10):
            app.send_task("ImportRowJob", args=[number])
        for number in range(10, 20):
            app.send_task("ImportRowJob", args=[number], queue="later")
        app.send_task("FailJob", args=["no luck"], queue="later", sidekiq_options={"retry": 0})
        app.send_task("AddingJob", queue="later")
    wait_until_equal(lambda: batch.status().pending, 12, "the bridge's half to be done")
    assert stage.worker is not None
    assert stage.sidecar is not None
    stage.worker.stop()
    stage.sidecar.stop()

    sidekiq = StockSidekiq(
        stage.root, stage.place, stage.redis_url, "-q", "default", "-q", "later",
        jobs=JOBS, env={"RUBYLIB": str(LIBRARY)},
    )  # fmt: skip
    try:
        wait_until_equal(lambda: done(stage, "OtherJob"), [["complete"]], "on_complete")
        wait_until_equal(lambda: done(stage, "AlertJob"), [["death"]], "on_death")
        assert not done(stage, "EchoJob")
        assert batch.status().dead == 1
        assert batch.forget(stage.only("dead")["jid"]) == 1
        wait_until_equal(lambda: done(stage, "EchoJob"), [["success"]], "on_success")
        assert len(done(stage, "ImportRowJob")) == 21
    finally:
        sidekiq.stop()
        start(stage)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_the_page_do_what_they_say(app: Bridge, stage: Stage, page: str) -> None:
    """Every block of Python pushes a batch, or is a task of one; every block of Ruby pushes one as well."""
    pushed = 0
    for block in blocks(page):
        if not any(made in block.text for made in ("Batch(", "Batch.new", "chord(")):
            continue
        if block.language == "python":
            program = block.text.replace("from bridge import Batch, app\n", "Batch = app.Batch\n")
            program = program.replace("from bridge import app\n", "")
            exec(compile(program, str(block), "exec"), {"app": app})
        else:
            stage.ruby.evaluate(block.text + "; nil")
        if "chord(" in block.text:
            continue  # it has waited for its results itself
        pushed += 1
        wait_until_equal(lambda: len(done(stage, "ReportJob")), pushed, f"callbacks at {block}", 60)
    assert pushed >= 2
    assert not stage.redis.exists("retry", "dead")


def test_chords_complete_after_the_roll_back_to_stock_sidekiq(app: Bridge, stage: Stage) -> None:
    """Given chords of Ruby classes in a queue, when Sidekiq takes over, each body gets the results of all."""

    def add(*args: Any) -> Any:
        return app.signature("SumJob", args=args, queue="later")

    def more(*args: Any) -> Any:
        return app.signature("SumJobOf", args=args, queue="later")

    first = chord([add([number, 1]) for number in range(5)])(add(100))
    # A chain, a chord behind it with a chain in its header, and a job behind the chord.
    second = (add([1, 2]) | group([more(10), more(20) | more(30)]) | add(1000) | more(1))()
    broken = (add(None) | group([more(1), more(2)]) | add())()
    sidekiq = StockSidekiq(
        stage.root, stage.place, stage.redis_url, "-q", "later", jobs=JOBS, env={"RUBYLIB": str(LIBRARY)}
    )
    try:
        assert first.get(timeout=20) == sum(range(5)) + 5 + 100
        assert second.get(timeout=20) == 13 + 53 + 1000 + 1
        jid = stage.only("retry")["jid"]
        stage.ruby.post(f"/retries/{stage.score('retry')!r}-{jid}", "/retries", {"kill": "Kill"})
        wait_until_equal(lambda: app.AsyncResult(broken.id).state, "FAILURE", "the end of the broken chain")
    finally:
        sidekiq.stop()


def test_an_iteration_that_goes_on_in_a_job_of_its_own_belongs_to_the_batch(
    app: Bridge, stage: Stage
) -> None:
    """sidekiq-iteration pushes a new job after an interruption; on_success followed the first part."""
    batch = app.Batch().on_success("ReportJob", "to the end")
    with batch.jobs():
        app.send_task("IteratingJob", args=[1])
    wait_until_equal(lambda: done(stage, "ReportJob"), [["to the end"]], "on_success")
    ended = [line["class"] for line in stage.ledger.lines if line["event"] == "done"]
    assert ended == ["IteratingJob", "IteratingJob", "ReportJob"]
    assert (batch.status().total, batch.status().state) == (2, "done")


def test_a_retry_of_activejobs_own_belongs_to_the_batch(stage: Stage) -> None:
    """ActiveJob pushes a new job; the batch of the first run was done without it."""
    if not stage.ruby.evaluate("defined?(ActiveJob) && true"):
        pytest.skip("no ActiveJob here")
    bid = stage.ruby.evaluate("""
      batch = SidekiqBridge::Batch.new.on_success("ReportJob", "after the retry")
      batch.jobs { RetriedByActiveJob.perform_later }
      batch.bid
    """)
    wait_until_equal(lambda: done(stage, "ReportJob"), [["after the retry"]], "on_success")
    assert stage.ledger.count("done") == 2
    assert [line["class"] for line in stage.ledger.lines if line["event"] == "done"] == [
        "RetriedByActiveJob",
        "ReportJob",
    ]
    status = reader.status(stage.redis, bid)
    assert status is not None
    assert (status.total, status.state) == (2, "done")
