"""Flower, Celery's own monitor, tells of Sidekiq's jobs: every attempt, every queue, and its buttons work."""

from __future__ import annotations

import base64
import json
import signal
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.celery import make_app
from bridge.settings import load as load_settings
from tests.support import census, redis_users
from tests.support.processes import Process, free_port
from tests.support.stage import Stage, new_jid
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import CELERY, bridge_environment


@pytest.fixture(scope="module")
def flower(shared_stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Flower that knows the worker."""
    port = free_port()
    env = bridge_environment(shared_stage.redis_url, None) | {"FLOWER_BASIC_AUTH": "u:p"}
    words = [CELERY, "-A", "bridge", "flower", "--address=127.0.0.1", f"--port={port}"]
    process = Process("flower", words, tmp_path_factory.mktemp("flower"), env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        process.wait_ready(lambda: answers(f"{url}/healthcheck"), 40)
        wait_for(lambda: fetch_json(f"{url}/api/workers"), "Flower to know the worker", 25)
        yield url
    finally:
        process.stop()


def answers(url: str) -> bool:
    try:
        return bool(fetch(url))
    except OSError:
        return False


def fetch(url: str, form: dict[str, str] | None = None) -> bytes:
    token = base64.b64encode(b"u:p").decode()
    data = None if form is None else urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(url, data, headers={"Authorization": f"Basic {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: bytes = answer.read()
        return found


def fetch_json(url: str) -> Any:
    return json.loads(fetch(url))


def state(flower: str, jid: str) -> str | None:
    """State of a task in Flower; None while Flower has not heard of it."""
    tasks = fetch_json(f"{flower}/api/tasks")
    return tasks[jid]["state"] if jid in tasks else None


@pytest.fixture
def events(stage: Stage) -> Iterator[list[tuple[str, str]]]:
    """What Celery's event stream tells, as (jid, event): the source of everything that Flower shows."""
    app = make_app(load_settings({"BRIDGE_REDIS_URL": redis_users.for_bridge(stage.redis_url)}))
    heard: list[tuple[str, str]] = []
    ready = threading.Event()
    connection = app.connection_for_read()

    def note(event: dict[str, Any]) -> None:
        ready.set()
        if event["type"].startswith("task-"):
            heard.append((event["uuid"], event["type"].removeprefix("task-")))

    receiver = app.events.Receiver(connection, handlers={"*": note})
    # The worker's own heartbeat event comes every two seconds: often enough to notice should_stop.
    thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=30), daemon=True)
    thread.start()
    assert ready.wait(20), "a heartbeat of the worker"
    yield heard
    receiver.should_stop = True
    thread.join(10)
    connection.release()
    app.close()


@pytest.mark.parametrize(
    ("job_class", "argument", "retry", "end", "shown"),
    [("FlakyJob", "open", True, "succeeded", "SUCCESS"), ("NativeFailJob", "x", 1, "failed", "FAILURE")],
)
def test_each_attempt_is_received_started_and_ended_under_one_id(
    stage: Stage, flower: str, events: list[tuple[str, str]],
    job_class: str, argument: str, retry: Any, end: str, shown: str,
) -> None:  # fmt: skip
    jid = stage.ruby.push(job_class, argument, retry=retry)
    wait_until_equal(lambda: state(flower, jid), "RETRY", "the state in Flower after the first attempt")

    stage.ledger.open_gate("open")
    stage.make_due("retry")

    wait_until_equal(lambda: state(flower, jid), shown, "the state in Flower after the second")
    told = ["received", "started", "retried", "received", "started", end]
    wait_until_equal(lambda: [event for uuid, event in events if uuid == jid], told, "events")
    assert job_class in fetch(f"{flower}/task/{jid}").decode()


def test_tasks_are_named_by_their_ruby_class_and_known_by_their_jid(stage: Stage, flower: str) -> None:
    done, failed = stage.ruby.push("EchoJob"), stage.ruby.push("FailJob", "seen in Flower", retry=0)
    active = stage.ruby.call("active_job", job="GreetJob", args=["Ada"])

    wait_for(lambda: fetch_json(f"{flower}/api/tasks").keys() >= {done, failed, active}, "all in Flower")
    wait_until_equal(lambda: state(flower, failed), "FAILURE", "the state in Flower")

    tasks = fetch_json(f"{flower}/api/tasks")
    assert [tasks[jid]["name"] for jid in (done, failed, active)] == ["EchoJob", "FailJob", "GreetJob"]
    # The message quotes an argument of the job, which events tell to nobody.
    assert fetch_json(f"{flower}/api/task/info/{failed}")["exception"] == "ArgumentError('***')"
    census.assert_keys_clean(stage.redis)


@pytest.mark.parametrize(("job_class", "side"), [("GateJob", "ruby"), ("NativeGateJob", "python")])
def test_the_page_of_a_task_shows_where_it_runs_and_its_queue(
    stage: Stage, flower: str, job_class: str, side: str
) -> None:
    # Nothing in Flower told a job in Python from one in Ruby: a misspelt native task ran in Ruby, unseen.
    jid = stage.push_job({"class": job_class, "args": ["where"]}, "low")

    wait_until_equal(lambda: state(flower, jid), "STARTED", "the state in Flower")

    found = fetch_json(f"{flower}/api/task/info/{jid}")
    assert (found["exchange"], found["routing_key"]) == (side, "low")
    page = " ".join(fetch(f"{flower}/task/{jid}").decode().split())
    assert f"<dt>Exchange</dt> <dd> {side} </dd>" in page
    stage.ledger.open_gate("where")
    wait_until_equal(lambda: state(flower, jid), "SUCCESS", "the state in Flower")
    assert fetch_json(f"{flower}/api/task/info/{jid}")["exchange"] == side


def test_the_result_of_a_tracked_job_is_shown(stage: Stage, flower: str) -> None:
    jid = stage.push_job({"class": "EchoJob", "args": [1], "bridge_track": True})
    wait_until_equal(lambda: state(flower, jid), "SUCCESS", "Flower to know the end")
    result = stage.redis.hget(f"bridge:result:{jid}", "result").decode()
    assert json.loads(result) > 0  # what the last line of its `perform` returns
    assert fetch_json(f"{flower}/api/task/info/{jid}")["result"] == result


def test_the_broker_page_shows_the_depth_of_sidekiqs_queues(stage: Stage, flower: str) -> None:
    worker = stage.make_worker("-Q", "deep", concurrency=1, name="deep")
    try:
        worker.process.signal(signal.SIGTSTP)
        wait_for(lambda: stage.redis.hget(worker.identity, "quiet") == b"true", "quiet")
        for _ in range(4):
            stage.push_job({"class": "EchoJob"}, "deep")

        def depth() -> int | None:
            fetch(f"{flower}/api/workers?refresh=1")
            queues = fetch_json(f"{flower}/api/queues/length")["active_queues"]
            return next((queue["messages"] for queue in queues if queue["name"] == "deep"), None)

        wait_until_equal(depth, 4, "depth of the queue in Flower", 25)
        assert "deep" in fetch(f"{flower}/broker").decode()
    finally:
        worker.stop()


def revoke(flower: str, jid: str, *, terminate: bool = False) -> None:
    """Press Revoke, or Terminate, as Flower's page does."""
    fetch(f"{flower}/api/task/revoke/{jid}", {"terminate": str(terminate).lower()})


@pytest.mark.parametrize("place", ["queue", "schedule", "retry"])
def test_revoke_removes_a_waiting_job_and_never_a_later_one_of_its_jid(
    stage: Stage, flower: str, place: str
) -> None:
    jid, other = new_jid(), new_jid()
    payloads = [json.dumps({"class": "EchoJob", "args": [jid], "jid": each, "queue": "parked"})
                for each in (jid, other)]  # fmt: skip
    for payload in payloads:
        if place == "queue":
            stage.push_raw(payload, "parked")
        else:
            stage.redis.zadd(place, {payload: 9e9})

    def waiting() -> list[bytes]:
        read: list[bytes] = (
            stage.redis.lrange("queue:parked", 0, -1)
            if place == "queue"
            else stage.redis.zrange(place, 0, -1)
        )
        return read

    revoke(flower, jid)

    wait_until_equal(waiting, [payloads[1].encode()], "what still waits: the other job")
    again = stage.push_job({"class": "EchoJob", "args": ["again"], "jid": jid})
    stage.ledger.wait_for("done", again)


@pytest.mark.parametrize("job_class", ["GateJob", "NativeGateJob"])
def test_revoke_ends_a_running_job_and_never_a_later_attempt_of_its_jid(
    stage: Stage, flower: str, job_class: str
) -> None:
    jid = stage.push_job({"class": job_class, "args": ["never"], "retry": True})
    stage.ledger.wait_for("started", jid)

    revoke(flower, jid, terminate=True)

    stage.wait_idle()
    stage.wait_counters(1, 1)
    assert [stage.redis.zcard(name) for name in ("retry", "dead")] == [0, 0]
    stage.ledger.open_gate("later")
    stage.push_job({"class": job_class, "args": ["later"], "jid": jid, "retry": True})
    stage.ledger.wait_for("done", jid)


def test_revoking_what_is_nowhere_leaves_no_mark(stage: Stage, flower: str) -> None:
    jid = new_jid()

    revoke(flower, jid, terminate=True)
    wait_for(lambda: stage.redis.exists(f"bridge:searching:{jid}"), "the worker to have looked")

    stage.push_job({"class": "EchoJob", "args": [], "jid": jid})
    stage.ledger.wait_for("done", jid)
    holds_for(lambda: stage.ledger.count("done", jid) == 1, 0.5, "once")


def test_its_button_for_a_rate_limit_says_why_it_is_refused(flower: str, stage: Stage) -> None:
    # The worker then ran Ruby jobs on the timer's thread, lost their slots, and stopped.
    (worker,) = fetch_json(f"{flower}/api/workers")
    form = {"workername": worker, "ratelimit": "5/m"}

    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(f"{flower}/api/task/rate-limit/bridge.perform", form)

    assert refused.value.code == 403
    assert "hold the jobs of all Ruby classes" in refused.value.read().decode()
    stage.ledger.wait_for("done", stage.push_job({"class": "EchoJob"}))
