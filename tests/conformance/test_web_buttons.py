"""Every button of the Web UI, pressed on what the bridge wrote: a Ruby job, a native one, an ActiveJob."""

from __future__ import annotations

import html
import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest

from bridge.celery import Bridge
from tests.support import census
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess


def push_three(stage: Stage, **options: Any) -> list[str]:
    """Jids of a Ruby job, a native job and an ActiveJob that fail."""
    return [
        stage.ruby.push("FailJob", "Ruby", **options),
        stage.ruby.push("NativeFailJob", "Python", **options),
        stage.push_job({
            "class": "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper", "wrapped": "GreetJob",
            "queue": "default", "retry": True, "args": [{
                "job_class": "GreetJob", "job_id": "u-1", "provider_job_id": None, "queue_name": "default",
                "priority": None, "arguments": [""], "executions": 0, "exception_executions": {},
                "locale": "en", "timezone": "UTC", "enqueued_at": "2026-01-01T00:00:00Z",
            }], **options,
        }),
    ]  # fmt: skip


def three_in(stage: Stage, name: str) -> list[str]:
    """The three as entries of ``retry`` or ``dead``."""
    jids = push_three(stage, **({"retry": 0} if name == "dead" else {}))
    wait_until_equal(lambda: stage.redis.zcard(name), 3, f"entries in {name}")
    stage.wait_idle()
    return jids


def keys_of(stage: Stage, name: str) -> list[str]:
    return [f"{entry['score']!r}-{entry['jid']}" for entry in stage.ruby.set(name)]


def counts(stage: Stage, name: str) -> list[int]:
    """retry_count of each entry."""
    return sorted(json.loads(member)["retry_count"] for member in stage.redis.zrange(name, 0, -1))


@contextmanager
def paused(stage: Stage) -> Iterator[None]:
    """No job runs meanwhile.

    Else "Retry All" takes a job twice that has failed again already. Sidekiq 6.4 and 7.3 go on while there is
    an entry. Sidekiq 8.1 takes as many entries as there were, and leaves another one out.
    """
    stage.redis.sadd("paused", "default")
    yield
    stage.redis.srem("paused", "default")


@pytest.mark.parametrize("button", ["selected", "all"])
def test_retry_now_runs_the_retries_again(stage: Stage, button: str) -> None:
    three_in(stage, "retry")

    with paused(stage):
        if button == "selected":
            keys = {"key": keys_of(stage, "retry"), "retry": "Retry Now"}
            stage.ruby.post("/retries", "/retries", keys)
        else:
            stage.ruby.post("/retries/all/retry", "/retries", {"retry": "Retry All"})

    stage.wait_counters(6, 6)
    wait_until_equal(lambda: counts(stage, "retry"), [0, 0, 0], "retry counts: one lower, then one higher")


@pytest.mark.parametrize("button", ["selected", "all"])
def test_kill_moves_the_retries_to_dead_as_they_are(stage: Stage, button: str) -> None:
    three_in(stage, "retry")
    before = sorted(stage.redis.zrange("retry", 0, -1))

    if button == "selected":
        stage.ruby.post("/retries", "/retries", {"key": keys_of(stage, "retry"), "kill": "Kill"})
    else:
        stage.ruby.post("/retries/all/kill", "/retries", {"kill": "Kill All"})

    assert sorted(stage.redis.zrange("dead", 0, -1)) == before
    assert stage.redis.zcard("retry") == 0


@pytest.mark.parametrize(("page", "name"), [("/retries", "retry"), ("/morgue", "dead")])
@pytest.mark.parametrize("button", ["selected", "all"])
def test_delete_removes_the_entries(stage: Stage, page: str, name: str, button: str) -> None:
    three_in(stage, name)

    if button == "selected":
        stage.ruby.post(page, page, {"key": keys_of(stage, name), "delete": "Delete"})
    else:
        stage.ruby.post(f"{page}/all/delete", page, {"delete": "Delete All"})

    assert stage.redis.zcard(name) == 0
    assert "GreetJob" not in stage.ruby.get(page).assert_fine().body


@pytest.mark.parametrize("button", ["one by one", "selected", "all"])
def test_retry_now_runs_the_dead_again(stage: Stage, button: str) -> None:
    three_in(stage, "dead")

    with paused(stage):
        if button == "one by one":
            for key in keys_of(stage, "dead"):
                stage.ruby.post(f"/morgue/{key}", f"/morgue/{key}", {"retry": "Retry Now"})
        elif button == "selected":
            stage.ruby.post("/morgue", "/morgue", {"key": keys_of(stage, "dead"), "retry": "Retry Now"})
        else:
            stage.ruby.post("/morgue/all/retry", "/morgue", {"retry": "Retry All"})

    stage.wait_counters(6, 6)
    wait_until_equal(lambda: counts(stage, "dead"), [0, 0, 0], "retry counts in dead")


@pytest.mark.parametrize("button", ["add_to_queue", "delete"])
@pytest.mark.parametrize("target", ["selected", "all"])
def test_the_buttons_of_the_scheduled_page(
    stage: Stage, producer: Bridge, sidekiq: tuple[int, ...], target: str, button: str
) -> None:
    if target == "all" and sidekiq < (8, 1):
        pytest.skip("its buttons for all came with Sidekiq 8.1")
    jids = [producer.send_task(name, args=["é"], countdown=900).id for name in ("EchoJob", "NativeEchoJob")]

    if target == "all":
        stage.ruby.post(f"/scheduled/all/{button}", "/scheduled", {button: "1"})
    else:
        stage.ruby.post("/scheduled", "/scheduled", {"key": keys_of(stage, "schedule"), button: "1"})

    assert stage.redis.zcard("schedule") == 0
    if button == "add_to_queue":
        for jid in jids:
            stage.ledger.wait_for("done", jid)
            assert stage.ledger.args(jid) == ["é"]
    else:
        stage.wait_done()
        assert stage.ledger.count("done") == 0


def test_clear_queue_empties_and_forgets_it(stage: Stage, producer: Bridge) -> None:
    for _ in range(3):
        producer.send_task("EchoJob", queue="parked")
    assert "parked" in stage.ruby.get("/queues").assert_fine().body

    stage.ruby.post("/queues/parked", "/queues", {"delete": "Delete"})

    assert not stage.redis.exists("queue:parked")
    assert not stage.redis.sismember("queues", "parked")
    # And a queue that the worker reads goes on, though it was just forgotten.
    stage.redis.sadd("queues", "default")
    stage.ruby.post("/queues/default", "/queues", {"delete": "Delete"})
    stage.ledger.wait_for("done", stage.ruby.push("EchoJob"))


@pytest.mark.parametrize("text", ["Größe", "NativeFailJob", "GreetJob", "Python"])
def test_the_filter_finds_what_the_bridge_wrote(stage: Stage, sidekiq: tuple[int, ...], text: str) -> None:
    if sidekiq < (7, 1, 5):
        pytest.skip("the filter came with Sidekiq 7.1.5")
    three_in(stage, "retry")
    stage.ruby.push("FailJob", "Größe")
    wait_until_equal(lambda: stage.redis.zcard("retry"), 4, "entries in retry")
    matching = [e["jid"] for e in stage.ruby.set("retry") if text in e["value"]]

    path = "/retries" if sidekiq >= (8, 1) else "/filter/retries"
    body = stage.ruby.get(f"{path}?substr={quote(text)}").assert_fine().body

    shown = [jid for jid in (e["jid"] for e in stage.ruby.set("retry")) if f"-{jid}" in body]
    assert sorted(shown) == sorted(matching)
    assert len(shown) == 1


@pytest.mark.parametrize(("page", "name"), [("/retries", "retry"), ("/morgue", "dead")])
def test_the_detail_pages_show_everything(stage: Stage, page: str, name: str) -> None:
    three_in(stage, name)

    for entry in stage.ruby.set(name):
        body = html.unescape(stage.ruby.get(f"{page}/{entry['score']!r}-{entry['jid']}").assert_fine().body)
        item = entry["item"]
        for shown in (entry["jid"], entry["display_class"], "default", item["error_class"]):
            assert shown in body, (shown, body)
        assert item["error_message"].splitlines()[0] in body
        if name == "retry":
            assert times_within(body, entry["score"], 1)
        assert times_within(body, time.time(), 60), "when it failed"


def times_within(body: str, wanted: float, seconds: float) -> bool:
    """Whether the page shows a time that close to ``wanted``."""
    shown = re.findall(r'datetime="([^"]+)"', body)
    return any(abs(epoch(text) - wanted) <= seconds for text in shown)


def epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_the_detail_page_of_a_scheduled_job_shows_it(stage: Stage, producer: Bridge) -> None:
    jid = producer.send_task("EchoJob", args=["Größe"], countdown=900).id
    (key,) = keys_of(stage, "schedule")

    body = html.unescape(stage.ruby.get(f"/scheduled/{key}").assert_fine().body)

    assert all(shown in body for shown in (jid, "EchoJob", "Größe", "default"))
    assert times_within(body, time.time() + 900, 5)


@pytest.fixture
def pair(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[tuple[Stage, list[WorkerProcess]]]:
    """Two workers on a Redis of their own."""
    with redis_server.client(8) as client:
        client.flushdb()
    stage = Stage(redis_server, ruby_root, database=8)
    workers: list[WorkerProcess] = []
    try:
        workers += [stage.make_worker("-Q", "own", concurrency=1, name=name) for name in ("one", "two")]
        yield stage, workers
    finally:
        for worker in workers:
            worker.process.kill()
        stage.stop()


def test_quiet_all_and_stop_all_reach_every_worker(pair: tuple[Stage, list[WorkerProcess]]) -> None:
    stage, workers = pair
    identities = [worker.identity for worker in workers]

    stage.ruby.post("/busy", "/busy", {"quiet": "Quiet all"})
    wait_for(lambda: all(stage.redis.hget(name, "quiet") == b"true" for name in identities), "quiet", 10)
    assert stage.ruby.get("/busy").assert_fine().body.count('label-danger">quiet') == 2

    stage.ruby.post("/busy", "/busy", {"stop": "Stop all"})

    assert [worker.process.wait(20) for worker in workers] == [0, 0]
    assert stage.redis.smembers("processes") == set()
    assert census.private_keys(stage.redis) == []


def test_the_threads_button_writes_the_stacks(stage: Stage) -> None:
    # Sidekiq's API has it; its pages of 6.4 to 8.1 show no button for it.
    worker = stage.make_worker("-Q", "own", concurrency=1, name="stacks")
    try:
        stage.ruby.call("signal", identity=worker.identity, name="TTIN")
        wait_for(lambda: "drain_events" in worker.log, "the stacks in the log", 30)
        assert worker.process.is_alive
    finally:
        worker.process.signal(signal.SIGTERM)
        worker.stop()
