"""Results by jid: what a tracked job returned, or why it did not, as Python code that waits sees it."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as ResultTimeout
from celery.result import AsyncResult

from bridge import errors
from bridge.celery import Bridge, make_app
from bridge.results.store import ResultStore
from bridge.settings import load as load_settings
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

TASKS = "tests.support.tracked_tasks"
POOLS = ["bridge", "prefork", "threads", "gevent", "solo"]


def client(stage: Stage, **env: str) -> Bridge:
    """The application of a process that pushes and asks: a Web process, say."""
    return make_app(load_settings({"BRIDGE_REDIS_URL": stage.redis_url, **env}))


@pytest.fixture
def app(stage: Stage) -> Bridge:
    return client(stage)


@pytest.fixture(scope="module")
def running(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=6) as made:
        made.start_worker(module="tests.support.tracked_coroutines")
        yield made


@pytest.fixture
def stage(running: Stage) -> Stage:
    """One worker for all tests here, with nothing left from the test before."""
    running.reset()
    return running


def push(stage: Stage, name: str, *args: Any, **fields: Any) -> str:
    """As Rails pushes it: nothing is written about it until a worker has it."""
    return stage.push_job({"class": name, "args": list(args), "retry": True, **fields})


def record(stage: Stage, jid: str) -> dict[str, str]:
    return {k.decode(): v.decode() for k, v in stage.redis.hgetall(f"bridge:result:{jid}").items()}


# -- what comes back


@pytest.mark.parametrize(
    "pair",
    [(1, 2), (1.5, 1), ("a", "é"), ([1], [None]), (10**30, 1)],
    ids=["int", "float", "text", "list", "big"],
)
def test_what_the_code_returned_comes_back(stage: Stage, app: Bridge, pair: tuple[Any, Any]) -> None:
    assert app.AsyncResult(push(stage, "AddJob", *pair)).get(timeout=10) == pair[0] + pair[1]


def test_a_push_from_python_is_known_before_it_runs(stage: Stage, app: Bridge) -> None:
    result = app.send_task("AddJob", args=[1, 2], countdown=3600, sidekiq_options={"bridge_track": True})
    assert result.state == "PENDING"
    assert record(stage, result.id)["status"] == "queued"
    with pytest.raises(ResultTimeout):
        result.get(timeout=0.1)


def test_a_coroutine_and_celerys_own_option_report_too(stage: Stage, app: Bridge) -> None:
    assert app.AsyncResult(push(stage, "CoroutineJob", 5)).get(timeout=10) == {"value": 5}
    assert app.AsyncResult(push(stage, "ByCeleryJob", 5)).get(timeout=10) == 5


def test_nothing_returned_is_none(stage: Stage, app: Bridge) -> None:
    result = app.AsyncResult(push(stage, "PlainJob", None, bridge_track=True))
    assert result.get(timeout=10) is None
    assert (result.state, result.ready(), result.successful()) == ("SUCCESS", True, True)


def test_the_hash_says_what_when_and_where(stage: Stage, app: Bridge) -> None:
    jid = push(stage, "AddJob", 1, 2)
    app.AsyncResult(jid).get(timeout=10)
    found = record(stage, jid)
    assert (found["status"], found["class"], found["language"], found["result"]) == (
        "done",
        "AddJob",
        "python",
        "3",
    )
    assert float(found["started_at"]) <= float(found["finished_at"]) <= time.time()
    assert 86_000 < stage.redis.ttl(f"bridge:result:{jid}") <= 86_400
    assert stage.redis.zscore("bridge:results", jid)


# -- bad ends


def test_a_dead_job_raises_its_own_error(stage: Stage, app: Bridge) -> None:
    result = app.AsyncResult(push(stage, "FailingJob", "value", "not a number"))
    with pytest.raises(ValueError, match=r"\Anot a number\Z"):
        result.get(timeout=10)
    assert result.state == "FAILURE"
    assert result.failed()
    assert isinstance(result.get(timeout=10, propagate=False), ValueError)


def test_an_error_of_a_class_that_this_process_lacks_keeps_its_name(
    stage: Stage, app: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a class whose __init__ wants two arguments: known or unknown, its name and message come back."""
    from tests.support.tracked_tasks import Declined

    jid = push(stage, "DeclinedJob", retry=False)
    with pytest.raises(Declined, match=r"\A7: no money\Z"):
        app.AsyncResult(jid).get(timeout=10)
    monkeypatch.delitem(sys.modules, Declined.__module__)
    with pytest.raises(errors.JobFailed, match=r"\A7: no money\Z") as raised:
        app.AsyncResult(jid).get(timeout=10)
    assert raised.type.__name__ == "tests.support.tracked_tasks.Declined"


def test_an_error_that_would_end_the_process_is_replaced(stage: Stage, app: Bridge) -> None:
    with pytest.raises(errors.JobFailed) as raised:
        app.AsyncResult(push(stage, "ExitJob", retry=False)).get(timeout=10)
    assert raised.type.__name__ == "SystemExit"


def test_a_retry_is_not_an_end(stage: Stage, app: Bridge) -> None:
    jid = push(stage, "FlakyJob")
    wait_until_equal(lambda: record(stage, jid).get("status"), "retry", "the first failure")
    assert app.AsyncResult(jid).state == "RETRY"
    stage.make_due("retry")
    assert app.AsyncResult(jid).get(timeout=10) == "the second time"
    assert "error_class" not in record(stage, jid)


def test_a_revoked_job_raises_at_once(stage: Stage, app: Bridge) -> None:
    jid = push(stage, "SleepJob", 60, retry=False)
    wait_until_equal(lambda: record(stage, jid).get("status"), "running", "the job to run")
    app.control.revoke(jid, terminate=True)
    with pytest.raises(TaskRevokedError):
        app.AsyncResult(jid).get(timeout=10)
    assert app.AsyncResult(jid).state == "REVOKED"


def test_a_waiting_job_that_is_revoked_raises_too(stage: Stage, app: Bridge) -> None:
    result = app.send_task("AddJob", args=[1, 2], countdown=3600, ignore_result=False)
    app.control.revoke(result.id)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)


def test_an_untracked_job_raises_at_once_with_a_sentence(stage: Stage, app: Bridge) -> None:
    result = app.send_task("PlainJob", args=[1], countdown=3600)
    began = time.monotonic()
    with pytest.raises(errors.NotTracked, match=r"PlainJob is not tracked.*track=True"):
        result.get()
    assert time.monotonic() - began < 2


def test_an_unknown_jid_raises_at_once_with_a_sentence(app: Bridge) -> None:
    for ask in (lambda result: result.get(), lambda result: result.state, lambda result: result.info):
        with pytest.raises(errors.ResultUnknown, match="no waiting or running job"):
            ask(app.AsyncResult("0" * 24))


@pytest.mark.parametrize("kind", ["object", "nan", "ring", "bytes"])
def test_a_result_that_json_cannot_hold_is_not_a_failed_job(stage: Stage, app: Bridge, kind: str) -> None:
    result = app.AsyncResult(push(stage, "OddJob", kind))
    with pytest.raises(errors.ResultLost, match="the job is done, but its result is not stored: "):
        result.get(timeout=10)
    assert result.state == "SUCCESS"
    assert stage.counters() == (1, 0)
    assert stage.worker is not None
    assert f"jid={result.id} is done, but its result is not stored" in stage.worker.log


def test_a_result_of_10_mb_is_not_stored(stage: Stage, app: Bridge) -> None:
    result = app.AsyncResult(push(stage, "LargeJob", 10_000_000))
    with pytest.raises(
        errors.ResultLost, match="it has 10,000,002 bytes of JSON, and at most 65,536 are kept"
    ):
        result.get(timeout=20)
    assert stage.redis.hlen(f"bridge:result:{result.id}") < 20


def test_a_lone_surrogate_survives(stage: Stage, app: Bridge) -> None:
    assert app.AsyncResult(push(stage, "OddJob", "surrogate")).get(timeout=10) == "\ud800"


# -- progress


def test_progress_is_seen_while_the_job_runs(stage: Stage, app: Bridge) -> None:
    jid = push(stage, "SteppingJob", 2, "step")
    stage.ledger.wait_for("told", jid)
    result = app.AsyncResult(jid)
    assert (result.state, result.info) == ("PROGRESS", {"at": 1, "total": 2, "message": "step 1"})
    stage.ledger.open_gate("step")
    assert result.get(timeout=10) == 2
    assert record(stage, jid)["at"] == "2"


def test_celerys_update_state_is_kept(stage: Stage, app: Bridge) -> None:
    jid = push(stage, "StateJob", "state")
    stage.ledger.wait_for("told", jid)
    result = app.AsyncResult(jid)
    assert result.state == "UPLOADING"
    assert result.info["file"] == "a.txt"
    assert (record(stage, jid)["at"], record(stage, jid)["total"]) == ("3", "4")
    stage.ledger.open_gate("state")
    assert result.get(timeout=10) == "uploaded"


def test_changes_are_told_to_who_waits(stage: Stage, app: Bridge) -> None:
    jid = push(stage, "SteppingJob", 3)
    seen: list[dict[str, Any]] = []
    assert app.AsyncResult(jid).get(timeout=10, on_message=seen.append) == 3
    assert seen[-1]["status"] == "SUCCESS"


def test_the_progress_of_an_untracked_job_fails_nothing(stage: Stage) -> None:
    push(stage, "UntrackedProgressJob")
    stage.wait_counters(1, 0)
    assert stage.worker is not None
    assert "UntrackedProgressJob tells of its progress and is not tracked" in stage.worker.log


# -- waiting


def test_many_wait_at_once_and_none_polls(stage: Stage, app: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    jids = [push(stage, "SteppingJob", 1, "many") for _ in range(5)]
    found: list[Any] = []
    reads: list[str] = []
    read = ResultStore.read
    monkeypatch.setattr(ResultStore, "read", lambda self, jid: (reads.append(jid), read(self, jid))[1])

    def ask(jid: str) -> None:
        found.append(app.AsyncResult(jid).get(timeout=20))

    threads = [threading.Thread(target=ask, args=(jid,)) for jid in jids]
    for thread in threads:
        thread.start()
    wait_for(lambda: stage.ledger.count("told") == 5, "all jobs to run")
    time.sleep(1.0)  # Celery's own backends would ask twice in this time
    stage.ledger.open_gate("many")
    for thread in threads:
        thread.join(20)
    assert found == [1] * 5
    assert max(reads.count(jid) for jid in jids) <= 5  # two at its start, and one for each change


def test_an_untracked_job_costs_redis_nothing_more(stage: Stage) -> None:
    push(stage, "PlainJob", 1)
    stage.wait_counters(1, 0)
    assert not [*stage.redis.scan_iter("bridge:result*")]


@pytest.mark.parametrize("pool", POOLS[1:])
def test_every_pool_reports(bare_stage: Stage, pool: str) -> None:
    stage = bare_stage
    stage.start_worker("-P", pool, module=TASKS)
    app = client(stage)
    assert app.AsyncResult(push(stage, "AddJob", 1, 2)).get(timeout=20) == 3
    with pytest.raises(KeyError):
        app.AsyncResult(push(stage, "FailingJob", "key", "k")).get(timeout=20)
    stepping = app.AsyncResult(push(stage, "SteppingJob", 2))
    assert stepping.get(timeout=20) == 2
    assert [line["args"][1] for line in stage.ledger.lines] == [True, True]


def test_flower_sees_the_result(stage: Stage, app: Bridge) -> None:
    """A listener to events gets the text of a tracked result."""
    seen: list[Any] = []
    with app.connection() as connection:

        def heard(event: Any) -> None:
            seen.append(event)
            receiver.should_stop = True

        receiver = app.events.Receiver(connection, handlers={"task-succeeded": heard})
        capturing = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=20))
        capturing.start()
        jid = app.send_task("AddJob", args=[20, 22], countdown=0.5, ignore_result=False).id
        capturing.join(20)
    assert [each["result"] for each in seen if each["uuid"] == jid] == ["42"]


def test_the_index_is_bounded(stage: Stage, app: Bridge) -> None:
    stage.redis.zadd("bridge:results", {f"old{i}": i for i in range(1500)})
    app.AsyncResult(push(stage, "AddJob", 1, 2)).get(timeout=10)
    assert stage.redis.zcard("bridge:results") == 1000


def test_a_hash_that_is_evicted_while_a_process_waits_is_an_error(
    stage: Stage, app: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.results.waiting.LOOK_SECONDS", 0.2)
    jid = push(stage, "SteppingJob", 1, "evicted")
    stage.ledger.wait_for("told", jid)
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(_outcome(app.AsyncResult(jid))))
    thread.start()
    stage.ledger.open_gate("evicted")
    thread.join(10)
    assert ended == [1]
    stage.redis.delete(f"bridge:result:{jid}")
    stage.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(errors.ResultUnknown, match=r"drops keys when it is full \(allkeys-lru\)"):
            app.AsyncResult(jid).get(timeout=10)
    finally:
        stage.redis.config_set("maxmemory-policy", "noeviction")


def test_keys_that_are_dropped_while_a_process_waits_are_an_error_at_once(stage: Stage, app: Bridge) -> None:
    """It was one after up to 15 s."""
    waiting = app.send_task("AddJob", args=[1, 1], queue="unserved", ignore_result=False)
    stage.redis.config_set("maxmemory", 1 << 30)
    stage.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        drop = threading.Timer(0.5, stage.redis.delete, (f"bridge:result:{waiting.id}", "queue:unserved"))
        drop.start()
        began = time.monotonic()
        with pytest.raises(errors.ResultUnknown, match="drops keys when it is full"):
            waiting.get(timeout=20)
        assert time.monotonic() - began < 8
    finally:
        stage.redis.config_set("maxmemory-policy", "noeviction")
        stage.redis.config_set("maxmemory", 0)


def _outcome(result: AsyncResult[Any]) -> Any:
    return result.get(timeout=20)


def test_a_user_class_in_sidekiq_options_says_it_too(stage: Stage, app: Bridge) -> None:
    result = app.send_task("PlainJob", args=[4], sidekiq_options={"bridge_track": True})
    assert json.loads(stage.redis.hget(f"bridge:result:{result.id}", "queued_at"))
    assert result.get(timeout=10) == 4


def test_a_redis_that_refuses_to_subscribe_is_asked_again_and_again(stage: Stage, caplog: Any) -> None:
    """Given a user without rights to publish and subscribe, for the process that waits."""
    rules = ("on", ">pw", "~*", "+@all", "-subscribe", "-psubscribe")
    stage.redis.execute_command("ACL", "SETUSER", "mute", *rules)
    url = stage.redis_url.replace("redis://", "redis://mute:pw@")
    app = make_app(load_settings({"BRIDGE_REDIS_URL": url}))
    jid = push(stage, "SteppingJob", 1, "mute")
    stage.ledger.wait_for("told", jid)
    threading.Timer(0.7, stage.ledger.open_gate, ("mute",)).start()
    assert app.AsyncResult(jid).get(timeout=15) == 1
    assert "Redis refuses SUBSCRIBE" in caplog.text
    stage.redis.execute_command("ACL", "DELUSER", "mute")
