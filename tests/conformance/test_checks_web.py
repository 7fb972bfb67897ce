"""Checks 47 to 59: Sidekiq's Web UI shows what the bridge wrote, and its buttons work on it."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest

from bridge.celery import Bridge
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess


@dataclass(frozen=True)
class Killed:
    """A worker that was killed with a job in hand, on a Redis where nobody else works."""

    stage: Stage
    identity: str
    keys: tuple[str, ...]
    ttl_seconds: list[int]


@pytest.fixture(scope="module", autouse=True)
def killed(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Killed]:
    stage = Stage(redis_server, ruby_root, database=7)
    try:
        worker = stage.make_worker("-Q", "own", concurrency=1, name="killed")
        identity = worker.identity
        keys = (identity, f"{identity}:work", f"{identity}:workers")
        stage.push_job({"class": "NativeGateJob", "args": ["never"]}, "own")
        wait_until_equal(lambda: stage.redis.exists(*keys), 3, "all its keys")
        worker.process.kill()
        yield Killed(stage, identity, keys, [stage.redis.ttl(key) for key in keys])
    finally:
        stage.stop()


def key_of(stage: Stage, name: str) -> str:
    """The name under which the Web UI knows the one entry of a set."""
    (entry,) = stage.ruby.set(name)
    return f"{entry['score']!r}-{entry['jid']}"


def times_on(body: str) -> list[float]:
    """Every time that a page shows, as epoch seconds."""
    found = re.findall(r'datetime="([^"]+)"', body)
    return [datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() for text in found]


def test_check_47_a_retry_entry_is_shown_with_class_args_error_and_times(stage: Stage, failing: str) -> None:
    stage.ruby.push(failing, "Größe <b>", backtrace=True)
    stage.only("retry")
    failed, next_try = time.time(), stage.score("retry")

    for path in ("/retries", f"/retries/{key_of(stage, 'retry')}"):
        body = html.unescape(stage.ruby.get(path).assert_fine().body)

        assert failing in body
        assert "Größe <b>" in body
        assert ("ArgumentError" if failing == "FailJob" else "ValueError") in body
        assert any(abs(shown - next_try) <= 1 for shown in times_on(body)), (path, times_on(body), next_try)
    assert any(abs(shown - failed) <= 2 for shown in times_on(body)), (times_on(body), failed)


def test_check_48_retry_now_runs_it_again_and_a_new_failure_counts_on(stage: Stage, failing: str) -> None:
    stage.push_job({"class": failing, "args": ["x"], "retry": True, "retry_queue": "parked"})
    stage.only("retry")

    stage.ruby.post(f"/retries/{key_of(stage, 'retry')}", "/retries", {"retry": "Retry Now"})

    (payload,) = stage.redis.lrange("queue:parked", 0, -1)
    assert stage.redis.zcard("retry") == 0
    assert json.loads(payload)["retry_count"] == -1
    stage.redis.lmove("queue:parked", "queue:default", "RIGHT", "LEFT")
    entry = stage.only("retry")
    assert entry["retry_count"] == 0
    assert entry["retried_at"] >= entry["failed_at"]


def test_check_49_kill_and_delete_work(stage: Stage, failing: str) -> None:
    stage.ruby.push(failing)
    stage.only("retry")
    (payload,) = stage.redis.zrange("retry", 0, -1)

    stage.ruby.post(f"/retries/{key_of(stage, 'retry')}", "/retries", {"kill": "Kill"})
    assert stage.redis.zrange("dead", 0, -1) == [payload]
    assert stage.redis.zcard("retry") == 0

    stage.ruby.post(f"/morgue/{key_of(stage, 'dead')}", "/morgue", {"delete": "Delete"})
    assert stage.redis.zcard("dead") == 0


def test_check_50_of_two_entries_with_one_score_the_other_stays(stage: Stage, failing: str) -> None:
    first, second = (stage.ruby.push(failing, str(number)) for number in range(2))
    wait_until_equal(lambda: stage.redis.zcard("retry"), 2, "entries in retry")
    at = time.time() + 1000
    stage.redis.zadd("retry", dict.fromkeys(stage.redis.zrange("retry", 0, -1), at))

    stage.ruby.post(f"/retries/{at!r}-{first}", "/retries", {"kill": "Kill"})

    ((member, score),) = stage.redis.zrange("retry", 0, -1, withscores=True)
    assert (json.loads(member)["jid"], score) == (second, at)


def test_check_51_add_to_queue_runs_a_scheduled_job_now(stage: Stage, producer: Bridge) -> None:
    jid = producer.send_task("EchoJob", args=[7], countdown=3600).id

    stage.ruby.post(f"/scheduled/{key_of(stage, 'schedule')}", "/scheduled", {"add_to_queue": "Add"})

    stage.ledger.wait_for("done", jid)
    assert stage.ledger.args(jid) == [7]


def test_check_52_the_queue_page_deletes_a_job_with_any_letters(stage: Stage, producer: Bridge) -> None:
    args = ["Grüße, 世界 🎉", "\"<&>'", {"é": "\\ / \u2028"}]
    producer.send_task("EchoJob", args=args, queue="parked")
    assert stage.redis.llen("queue:parked") == 1
    body = stage.ruby.get("/queues/parked").assert_fine().body
    (value,) = re.findall(r'name=["\']key_val["\'] value=["\']([^"\']*)["\']', body)

    # As a browser sends the form that the page holds.
    stage.ruby.post("/queues/parked/delete", "/queues/parked", {"key_val": html.unescape(value)})

    assert stage.redis.llen("queue:parked") == 0


def test_check_53_the_busy_page_shows_the_worker_and_its_jobs(stage: Stage) -> None:
    jid = stage.ruby.push("GateJob", "busy")
    stage.ledger.wait_for("started", jid)
    identity = stage.worker.identity
    wait_for(lambda: stage.redis.hget(identity, "busy") == b"1", "the beat that counts the running job")
    wait_for(lambda: stage.ruby.call("work"), "the row of the running job")

    body = stage.ruby.get("/busy").assert_fine().body
    (process,) = [found for found in stage.ruby.call("processes") if found["identity"] == identity]
    stage.ledger.open_gate("busy")

    assert identity in body
    assert jid in body
    assert "GateJob" in body
    assert (process["concurrency"], process["busy"]) == (5, 1)
    assert process["rss"] > 10_000
    assert process["queues"] == ["high", "default", "low", "mailers"]
    assert all(queue in body for queue in process["queues"])


def jid_of(payload: str | dict[str, str]) -> str:
    """Of a row's payload, which Sidekiq 6 hands out parsed."""
    parsed: dict[str, str] = json.loads(payload) if isinstance(payload, str) else payload
    return parsed["jid"]


def test_short_jobs_never_show_on_the_busy_page_and_a_long_one_always_does(stage: Stage) -> None:
    before = time.time()
    jid = stage.ruby.push("GateJob", "long")
    stage.ledger.wait_for("started", jid)
    started = time.time()
    wait_for(lambda: stage.ruby.call("work"), "the row of the long job", 5)
    assert time.time() - started < 2, "within a second, and another for a busy machine"

    seen = []
    for _ in range(20):
        for name in ("EchoJob", "NativeEchoJob"):
            stage.ruby.push(name)
        seen.append([(jid_of(row["payload"]), row["run_at"]) for row in stage.ruby.call("work")])
    stage.ledger.open_gate("long")

    assert {len(rows) for rows in seen} == {1}
    ((shown, run_at),) = {row for rows in seen for row in rows}
    assert shown == jid
    assert before - 1 <= run_at <= started + 1


def test_check_54_quiet_takes_no_more_jobs_and_lets_the_running_end(
    stage: Stage, disposable_worker: WorkerProcess
) -> None:
    identity = disposable_worker.identity
    running = stage.push_job({"class": "GateJob", "args": ["quiet"]}, "own")
    stage.ledger.wait_for("started", running)

    stage.ruby.post("/busy", "/busy", {"identity": identity, "quiet": "1"})
    wait_for(lambda: stage.redis.hget(identity, "quiet") == b"true", "quiet within a beat", 8)
    stage.push_job({"class": "EchoJob"}, "own")

    holds_for(lambda: stage.redis.llen("queue:own") == 1, 1.0, "no new job starts")
    assert "quiet" in stage.ruby.get("/busy").assert_fine().body.lower()
    stage.ledger.open_gate("quiet")
    stage.ledger.wait_for("done", running)
    assert disposable_worker.process.is_alive


def test_check_55_stop_gives_back_what_did_not_end(stage: Stage, disposable_worker: WorkerProcess) -> None:
    identity = disposable_worker.identity
    payloads = [f'{{"class":"{name}","args":["never"],"jid":"{name}-{n}" , "x":1.0}}'.encode()
                for n, name in enumerate(["GateJob", "NativeGateJob", "GateJob"])]  # fmt: skip
    for payload in payloads:
        stage.push_raw(payload, "own")
    wait_until_equal(lambda: stage.ledger.count("started"), 3, "jobs that run")
    stage.push_raw(b'{"class":"EchoJob","jid":"waits"}', "own")

    stage.ruby.post("/busy", "/busy", {"identity": identity, "stop": "1"})

    assert disposable_worker.process.wait(20) == 0
    *given_back, waiting = reversed(stage.redis.lrange("queue:own", 0, -1))
    assert sorted(given_back) == sorted(payloads)
    assert waiting == b'{"class":"EchoJob","jid":"waits"}'
    assert identity.encode() not in stage.redis.smembers("processes")
    assert not stage.redis.exists(f"{identity}:work", f"{identity}:workers")
    assert stage.redis.zcard("retry") == 0
    stage.ledger.open_gate("never")


def test_check_57_the_statistics_page_tells_the_truth(stage: Stage, producer: Bridge) -> None:
    stage.ruby.push("EchoJob")
    stage.ruby.push("FailJob")
    stage.ruby.push("NativeFailJob", retry=0)
    producer.send_task("EchoJob", countdown=100)
    for _ in range(3):
        producer.send_task("EchoJob", queue="parked")
    gate = stage.ruby.push("GateJob", "stats")
    stage.wait_counters(3, 2)
    stage.ledger.wait_for("started", gate)
    wait_for(lambda: stage.redis.hget(stage.worker.identity, "busy") == b"1", "the next beat")

    shown = json.loads(stage.ruby.get("/stats").assert_fine().body)["sidekiq"]
    stage.ledger.open_gate("stats")

    names = ("processed", "failed", "busy", "enqueued", "retries", "scheduled", "dead", "processes")
    processes = stage.redis.scard("processes")
    assert [shown[name] for name in names] == [3, 2, 1, 3, 1, 1, 1, processes]
    stage.ruby.get("/").assert_fine()


def test_check_58_a_frame_in_angle_brackets_is_visible(stage: Stage) -> None:
    stage.ruby.push("NativeLambdaJob", backtrace=True)
    stage.only("retry")

    body = stage.ruby.get(f"/retries/{key_of(stage, 'retry')}").assert_fine().body

    assert "&lt;lambda&gt;" in body


@pytest.mark.parametrize(
    "wrapper", ["ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper", "Sidekiq::ActiveJob::Wrapper"]
)
def test_check_59_an_active_job_shows_its_own_class(
    stage: Stage, sidekiq: tuple[int, ...], wrapper: str
) -> None:
    inner = {"job_class": "GreetJob", "job_id": "u", "arguments": ["Ada"], "executions": 0, "locale": "en"}
    stage.push_job(
        {"class": wrapper, "wrapped": "GreetJob", "queue": "parked", "args": [inner], "retry": True}, "parked"
    )

    body = stage.ruby.get("/queues/parked").assert_fine().body

    known = wrapper.startswith("ActiveJob") or sidekiq >= (7, 3, 3)
    (job,) = stage.ruby.queue("parked")
    assert job["display_class"] == ("GreetJob" if known else wrapper)
    assert (job["display_args"] == ["Ada"]) is known
    assert "GreetJob" in body


def test_check_59_an_active_job_that_failed_shows_its_own_class(stage: Stage) -> None:
    stage.ruby.call("active_job", job="GreetJob", args=[""])
    stage.only("retry")

    (entry,) = stage.ruby.set("retry")

    assert (entry["display_class"], entry["display_args"]) == ("GreetJob", [""])
    assert "GreetJob" in stage.ruby.get("/retries").assert_fine().body


def test_an_active_job_runs_with_its_arguments(stage: Stage) -> None:
    jid = stage.ruby.call("active_job", job="GreetJob", args=["Ada"], keywords={"greeting": "Hi"})

    stage.ledger.wait_for("done", jid)

    assert stage.ledger.args(jid) == ["Hi Ada"]


def test_check_56_a_killed_worker_leaves_the_busy_page_when_its_minute_is_over(killed: Killed) -> None:
    # Last in this file: most of the minute passes while the other checks run.
    stage, identity = killed.stage, killed.identity
    assert all(0 < left <= 60 for left in killed.ttl_seconds), killed.ttl_seconds

    wait_for(lambda: not stage.redis.exists(*killed.keys), "the minute to pass", 65)
    body = stage.ruby.get("/busy").assert_fine().body

    assert identity not in body
    assert identity.encode() not in stage.redis.smembers("processes")
    assert stage.ruby.call("stats")["processes_size"] == 0
