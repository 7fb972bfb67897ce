"""Results by jid, for jobs in either language, asked for in either language."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from bridge import errors
from bridge.celery import Bridge, make_app
from bridge.settings import load as load_settings
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_helper import RubyFailed
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for, wait_until_equal

JOBS = ROOT / "tests/support/ruby/tracked_jobs.rb"
TASKS = "tests.support.tracked_tasks"
TRACK = {"BRIDGE_TRACK": "NamedJob"}

#: Results that both languages write alike.
VALUES = [None, True, 7, 2.5, "é\n", [1, [None]], {"a": {"b": [1]}}, 10**25]


class Side:
    """Whatever runs Ruby jobs: a sidecar with its worker, or Sidekiq's own process."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.app: Bridge = make_app(load_settings({"BRIDGE_REDIS_URL": stage.redis_url}))
        stage.ruby.evaluate(f"require {json.dumps(str(JOBS))}; true")

    def push(self, name: str, *args: Any) -> str:
        return self.stage.ruby.perform(name, *args)

    def in_python(self, jid: str) -> Any:
        return self.app.AsyncResult(jid).get(timeout=15)

    def in_ruby(self, jid: str, timeout: float = 15) -> Any:
        return self.stage.ruby.evaluate(f"SidekiqBridge::Result.get({jid!r}, timeout: {timeout})")

    def error_in_ruby(self, jid: str) -> tuple[str, str]:
        get = f"SidekiqBridge::Result.get({jid!r}, timeout: 15)"
        code = f"begin; {get}; rescue StandardError => e; [e.class.name, e.message, e.class.to_s]; end"
        found = self.stage.ruby.evaluate(code)
        return found[0] or found[2], found[1]

    def record(self, jid: str) -> dict[str, str]:
        found = self.stage.redis.hgetall(f"bridge:result:{jid}")
        return {name.decode(): value.decode() for name, value in found.items()}


@pytest.fixture(scope="module", params=["streams", "requests", "stock"])
def running(redis_server: RedisServer, ruby_root: RubyRoot, request: Any) -> Iterator[Side]:
    """Given a worker on streams, a worker on single requests, or Sidekiq's own process with the gem."""
    with Stage(redis_server, ruby_root, database=11, jobs=JOBS) as stage:
        stock = None
        if request.param == "stock":
            stock = StockSidekiq(
                ruby_root, stage.place, stage.redis_url, "-q", "default", "-q", "low", jobs=JOBS, env=TRACK
            )
        else:
            stage.start_sidecar()
            pool = ("-P", "threads") if request.param == "requests" else ()
            stage.start_worker(*pool, module=TASKS, env=TRACK)
        try:
            yield Side(stage)
        finally:
            if stock is not None:
                stock.stop()


@pytest.fixture
def side(running: Side) -> Side:
    running.stage.reset()
    return running


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_ruby_returned_comes_back(side: Side, value: Any) -> None:
    jid = side.push("TrackedJob", "value", value)
    assert side.in_python(jid) == value
    assert side.in_ruby(jid) == value
    record = side.record(jid)
    assert (record["status"], record["class"], record["language"]) == ("done", "TrackedJob", "ruby")


def test_an_active_job_is_asked_for_by_its_provider_job_id(side: Side) -> None:
    if not side.stage.ruby.evaluate("defined?(TrackedGreetJob) ? true : false"):
        pytest.skip("no ActiveJob beside this Sidekiq")
    jid = side.stage.ruby.evaluate("TrackedGreetJob.perform_later('Ann').provider_job_id")
    assert side.in_ruby(jid) == "hello Ann"
    assert side.in_python(jid) == "hello Ann"
    assert side.record(jid)["class"] == "TrackedGreetJob"


def test_symbols_are_texts(side: Side) -> None:
    jid = side.push("TrackedJob", "mixed")
    assert side.in_python(jid) == {"text": "é", "list": [1, 2.5, None, True], "symbol": "ok"}


def test_a_push_is_known_before_it_runs(side: Side) -> None:
    jid = side.stage.ruby.evaluate("TrackedJob.perform_in(3600, 'nothing')")
    record = side.record(jid)
    assert (record["status"], record["class"]) == ("queued", "TrackedJob")
    assert "SidekiqBridge::ResultTimeout" in side_error(side, jid, 0.2)


def test_a_wait_ends_in_time(side: Side) -> None:
    # redis-rb took the pause for a lost connection and waited twice as long.
    jid = side.stage.ruby.evaluate("TrackedJob.perform_in(3600, 'nothing')")
    clock = "Process.clock_gettime(Process::CLOCK_MONOTONIC)"
    get = f"SidekiqBridge::Result.get({jid!r}, timeout: 2)"
    code = f"began = {clock}; begin; {get}; rescue SidekiqBridge::ResultTimeout; {clock} - began; end"
    assert 1.9 < side.stage.ruby.evaluate(code) < 3.5


def side_error(side: Side, jid: str, timeout: float) -> str:
    with pytest.raises(RubyFailed) as raised:
        side.in_ruby(jid, timeout)
    return str(raised.value)


def test_a_failure_raises_its_own_class_and_message(side: Side) -> None:
    jid = side.push("TrackedJob", "fail", "no money")
    with pytest.raises(errors.JobFailed, match=r"\Ano money\Z") as raised:
        side.in_python(jid)
    assert raised.type.__name__ == "Billing::Declined"
    assert side.error_in_ruby(jid) == ("Billing::Declined", "no money")
    assert side.record(jid)["status"] == "dead"


@pytest.mark.parametrize(("kind", "args"), [("object", ()), ("infinite", ()), ("large", (70_000,))])
def test_a_result_that_cannot_be_stored_is_not_a_failed_job(side: Side, kind: str, args: Any) -> None:
    jid = side.push("TrackedJob", kind, *args)
    with pytest.raises(errors.ResultLost):
        side.in_python(jid)
    assert side.error_in_ruby(jid)[0] == "SidekiqBridge::ResultLost"
    assert side.record(jid)["status"] == "done"
    assert [side.stage.redis.zcard(name) for name in ("retry", "dead")] == [0, 0]


def test_progress_is_seen_in_both_languages(side: Side) -> None:
    jid = side.push("TrackedJob", "steps", 3, "steps")
    side.stage.ledger.wait_for("told", jid, times=3)
    assert side.app.AsyncResult(jid).info == {"at": 3, "total": 3, "message": "step 3"}
    seen = side.stage.ruby.evaluate(
        f"r = SidekiqBridge::Result.find({jid!r}); [r.status, r.at, r.percent, r.message]"
    )
    assert seen == ["running", 3, 100, "step 3"]
    side.stage.ledger.open_gate("steps")
    assert side.in_ruby(jid) == 3
    told = [line["args"][1] for line in side.stage.ledger.lines if line["event"] == "told"]
    assert told == [True] * 3


def test_progress_inside_a_fiber_counts_and_in_another_thread_does_not(side: Side) -> None:
    assert side.in_ruby(side.push("TrackedJob", "in_enumerator")) is True
    assert side.in_ruby(side.push("TrackedJob", "in_thread")) is False


def test_a_retry_is_not_an_end(side: Side) -> None:
    jid = side.push("RetriedJob", 1)
    wait_until_equal(lambda: side.record(jid).get("status"), "retry", "the first failure")
    assert side.record(jid)["error_class"] == "Billing::Declined"
    side.stage.make_due("retry")
    assert side.in_python(jid) == "attempt 1"
    assert "error_class" not in side.record(jid)


def test_the_last_failure_is_an_end(side: Side) -> None:
    jid = side.push("RetriedJob", 9)
    wait_until_equal(lambda: side.record(jid).get("status"), "retry", "the first failure")
    side.stage.make_due("retry")
    with pytest.raises(errors.JobFailed, match="attempt 1"):
        side.in_python(jid)


def test_bridge_track_names_a_class(side: Side) -> None:
    jid = side.push("NamedJob")
    # The push does not track it: between Sidekiq's BRPOP and the start of the job Redis has no trace of it.
    wait_for(lambda: side.record(jid), "the record that the running process makes")
    assert side.in_python(jid) is True


def test_an_untracked_job_is_left_alone(side: Side) -> None:
    jid = side.push("PlainRubyJob")
    side.stage.ledger.wait_for("done", jid)
    assert side.stage.ledger.args(jid) == [False]
    assert not [*side.stage.redis.scan_iter("bridge:result*")]


def test_bad_questions_get_clear_answers(side: Side) -> None:
    waiting = side.stage.ruby.evaluate("PlainRubyJob.perform_in(3600)")
    assert side.error_in_ruby(waiting)[0] == "SidekiqBridge::NotTracked"
    assert side.error_in_ruby("0" * 24)[0] == "SidekiqBridge::ResultUnknown"


def test_recent_jobs_are_listed(side: Side) -> None:
    jids = [side.push("TrackedJob", "value", number) for number in range(3)]
    for jid in jids:
        side.in_python(jid)
    listed = side.stage.ruby.evaluate(
        "SidekiqBridge::Results.recent(2).map { |result| [result.jid, result.value] }"
    )
    assert len(listed) == 2
    assert {jid for jid, _ in listed} <= set(jids)


def test_many_answers_at_once(side: Side) -> None:
    jids = [side.push("TrackedJob", "value", number) for number in range(50)]
    found: dict[int, Any] = {}

    def ask(number: int, jid: str) -> None:
        found[number] = side.in_python(jid)

    threads = [threading.Thread(target=ask, args=each) for each in enumerate(jids)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {number: number for number in range(50)}


class TestOfTheBridge:
    """What only the bridge's own worker does."""

    @pytest.fixture(autouse=True)
    def bridge(self, side: Side) -> None:
        if side.stage.worker is None:
            pytest.skip("a process of Sidekiq's own runs no Python, and knows no revoke")

    def test_ruby_asks_python(self, side: Side) -> None:
        jid = side.stage.ruby.push("AddJob", 1, 2)
        assert side.in_ruby(jid) == 3

    def test_a_python_error_has_its_name_in_ruby(self, side: Side) -> None:
        jid = side.stage.ruby.push("FailingJob", "value", "not a number")
        assert side.error_in_ruby(jid) == ("ValueError", "not a number")

    def test_a_revoked_job_raises_in_both(self, side: Side) -> None:
        jid = side.push("TrackedJob", "sleep_for", 60)
        side.stage.ledger.wait_for("started", jid)
        side.app.control.revoke(jid, terminate=True)
        with pytest.raises(TaskRevokedError):
            side.in_python(jid)
        assert side.error_in_ruby(jid)[0] == "SidekiqBridge::JobRevoked"
