"""Batches on a real Redis: what is pushed, what each end of a job means, and when the callbacks follow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery.exceptions import TaskRevokedError

from bridge import errors
from bridge.batches import effects, reader
from bridge.celery import Bridge, make_app
from bridge.settings import load as load_settings
from bridge.sidekiq.outcome.decision import Bury, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.store.settlement import Settled
from tests.integration.worker import Worker
from tests.support import census, redis_users
from tests.support.command import Bridge as Command
from tests.support.redis_server import RedisServer


@pytest.fixture
def app(redis_server: RedisServer, empty_redis: redis.Redis) -> Bridge:
    return make_app(load_settings({"BRIDGE_REDIS_URL": redis_users.for_bridge(redis_server.url_of(15))}))


@pytest.fixture
def worker(make_worker: Callable[..., Worker]) -> Worker:
    worker = make_worker(slots=1000)
    worker.store.effects.sources.append(effects.effects)
    return worker


def waiting(client: redis.Redis, queue: str = "default") -> list[dict[str, Any]]:
    """The jobs of a queue, the one that runs next first."""
    return [json.loads(payload) for payload in client.lrange(f"queue:{queue}", 0, -1)][::-1]


def classes(client: redis.Redis, queue: str = "callbacks") -> list[str]:
    return [job["class"] for job in waiting(client, queue)]


def signature(app: Bridge, name: str, *args: Any) -> Any:
    return app.signature(name, args=args, queue="callbacks")


def all_callbacks(app: Bridge, name: str = "") -> dict[str, Any]:
    return {
        f"on_{event}": signature(app, f"{name}{event.title()}Job")
        for event in ("complete", "success", "death")
    }


def push(app: Bridge, count: int = 1, name: str = "", **options: Any) -> Any:
    batch = app.Batch(**all_callbacks(app, name), **options)
    with batch.jobs():
        for number in range(count):
            app.send_task("HardJob", args=[number])
    return batch


def settle(worker: Worker, *decisions: Any) -> list[Settled]:
    """Take as many jobs as there are decisions, and end them so."""
    worker.gate.most = len(decisions)
    units = worker.take()
    assert len(units) == len(decisions)
    before = len(worker.outcomes)
    for unit, decision in zip(units, decisions, strict=True):
        worker.fetcher.settle(unit.delivery.token, decision)
    worker.fetcher.turn(claim=False)
    return [outcome for _, _, outcome in worker.outcomes[before:]]


def test_the_jobs_are_pushed_at_the_end_of_the_block_with_the_id_of_their_batch(
    app: Bridge, empty_redis: redis.Redis
) -> None:
    batch = app.Batch("an import")
    with batch.jobs():
        app.send_task("HardJob", args=[1])
        app.send_task("ReportJob", args=[2], queue="low", countdown=1000)
        assert not waiting(empty_redis)

    (job,) = waiting(empty_redis)
    assert (job["class"], job["bridge_batch"]) == ("HardJob", batch.bid)
    assert empty_redis.smembers("queues") == {b"default"}
    (later,) = map(json.loads, empty_redis.zrange("schedule", 0, -1))
    assert (later["class"], later["bridge_batch"], "enqueued_at" in later) == ("ReportJob", batch.bid, False)
    status = batch.status()
    assert (status.state, status.total, status.pending, status.description) == ("running", 2, 2, "an import")
    census.assert_keys_clean(empty_redis)


def test_a_block_that_raises_pushes_nothing(app: Bridge, empty_redis: redis.Redis) -> None:
    def fill() -> None:
        with app.Batch().jobs():
            app.send_task("HardJob")
            with app.Batch().jobs():
                app.send_task("HardJob")
            raise KeyError

    with pytest.raises(KeyError):
        fill()
    assert not empty_redis.keys()
    app.send_task("HardJob")
    assert "bridge_batch" not in waiting(empty_redis)[0]


# -- what each end means

RETRY = Retry(9e9, b'{"jid":"r"}')
BURY = Bury(b'{"jid":"d"}')


def test_callbacks_follow_the_last_job_once_each(
    app: Bridge, worker: Worker, empty_redis: redis.Redis
) -> None:
    batch = push(app, 3)
    settle(worker, Done(), Done())
    assert not classes(empty_redis)
    assert settle(worker, Done()) == [Settled.OK]
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]
    status = batch.status()
    assert (status.state, status.pending, status.total) == ("done", 0, 3)
    assert 0 < empty_redis.ttl(f"bridge:batch:{batch.bid}") <= 86_400
    assert not empty_redis.exists(f"bridge:batch:{batch.bid}:jobs")


def test_a_callback_is_a_job_as_any_other(app: Bridge, worker: Worker, empty_redis: redis.Redis) -> None:
    batch = app.Batch(on_success=app.signature("ReportJob", args=[1, "zo\u00eb"], queue="low"))
    batch.on_success("OtherJob", 2).on_success("ThirdJob")
    with batch.jobs():
        app.send_task("HardJob")
    settle(worker, Done())
    (job,) = waiting(empty_redis, "low")
    assert {name: type(value).__name__ for name, value in job.items()} == {
        "args": "list", "class": "str", "jid": "str", "queue": "str", "retry": "bool",
        "created_at": "float", "enqueued_at": "float",
    }  # fmt: skip
    assert job["args"] == [1, "zo\u00eb"]
    assert [(job["class"], job["args"]) for job in waiting(empty_redis)] == [
        ("OtherJob", [2]),
        ("ThirdJob", []),
    ]
    assert empty_redis.smembers("queues") == {b"default", b"low"}


def test_complete_follows_when_all_have_run_once_and_success_when_all_are_done(
    app: Bridge, worker: Worker, empty_redis: redis.Redis
) -> None:
    batch = push(app, 2)
    first = json.dumps(waiting(empty_redis)[0])
    settle(worker, RETRY, Done())
    assert classes(empty_redis) == ["CompleteJob"]
    assert (batch.status().state, batch.status().failed) == ("complete", 1)
    empty_redis.lpush("queue:default", first)
    settle(worker, Done())
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]


@pytest.mark.parametrize(
    "end", [BURY, Discard(), Bury(b"{}", ran=False)], ids=["dead", "discarded", "refused"]
)
def test_the_first_dead_job_is_told_once_and_a_dead_job_that_a_person_retries_counts_again(
    app: Bridge, worker: Worker, empty_redis: redis.Redis, end: Any
) -> None:
    batch = push(app, 3)
    jobs = [json.dumps(job) for job in waiting(empty_redis)]
    settle(worker, end, end)
    assert classes(empty_redis) == ["DeathJob"]
    settle(worker, Done())
    assert classes(empty_redis) == ["DeathJob", "CompleteJob"]
    assert (batch.status().dead, batch.status().pending) == (2, 2)
    empty_redis.lpush("queue:default", *jobs[:2])
    settle(worker, RETRY, Done())
    assert (batch.status().dead, batch.status().failed) == (0, 1)
    empty_redis.lpush("queue:default", jobs[0])
    settle(worker, Done())
    assert classes(empty_redis) == ["DeathJob", "CompleteJob", "SuccessJob"]


@pytest.mark.parametrize("decision", [GiveBack(), GiveBack(may_run=True), Interrupt(b"{}")], ids=str)
def test_a_job_that_did_not_end_is_waited_for(
    app: Bridge, worker: Worker, empty_redis: redis.Redis, decision: Any
) -> None:
    batch = push(app)
    settle(worker, decision)
    assert not classes(empty_redis)
    assert batch.status().pending == 1


def test_a_job_that_runs_twice_counts_once(app: Bridge, worker: Worker, empty_redis: redis.Redis) -> None:
    batch = push(app, 2)
    first = json.dumps(waiting(empty_redis)[0])
    empty_redis.rpush("queue:default", first)
    settle(worker, Done(), Done())
    assert not classes(empty_redis)
    settle(worker, Done())
    empty_redis.rpush("queue:default", first)
    settle(worker, BURY)
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]
    assert batch.status().state == "done"


def test_an_orphan_counts_when_it_is_buried_as_a_poison_pill(
    app: Bridge, make_worker: Callable[..., Worker], worker: Worker, empty_redis: redis.Redis
) -> None:
    push(app)
    for times in range(3):
        assert not classes(empty_redis), times
        dying = make_worker()
        dying.take()
        worker.reaper.reap(dying.identity)
    assert classes(empty_redis) == ["DeathJob", "CompleteJob"]


def test_a_fenced_settlement_counts_nothing(
    app: Bridge, make_worker: Callable[..., Worker], worker: Worker, empty_redis: redis.Redis
) -> None:
    push(app)
    frozen = make_worker()
    frozen.store.effects.sources.append(effects.effects)
    (unit,) = frozen.take()
    worker.reaper.reap(frozen.identity)
    frozen.settle(unit)
    assert frozen.outcomes[-1][2] is Settled.FENCED
    assert not classes(empty_redis)
    settle(worker, Done())
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]


# -- odd batches


def test_a_batch_without_jobs_is_done_at_once(app: Bridge, empty_redis: redis.Redis) -> None:
    batch = push(app, 0)
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]
    assert batch.status().state == "done"


def test_a_large_batch_is_pushed_in_slices_and_no_callback_precedes_the_last(
    app: Bridge, worker: Worker, empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that are faster than the push must not end the batch early."""
    store, sizes = app.bridge.store, []
    push_by = store.push_by

    def work_meanwhile(call: Any) -> Any:
        answer = push_by(call)
        if call.script.name == "batch_push":
            sizes.append(empty_redis.llen("queue:default"))
            assert not classes(empty_redis)
            settle(worker, *[Done()] * sizes[-1])
        return answer

    monkeypatch.setattr(store, "push_by", work_meanwhile)
    push(app, 1200)
    assert sizes == [500, 500, 200]
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]


def test_jobs_are_added_to_a_batch_that_runs_and_refused_by_one_that_is_finished(
    app: Bridge, worker: Worker, empty_redis: redis.Redis
) -> None:
    batch = push(app)
    with app.Batch.find(batch.bid).jobs():
        app.send_task("HardJob")
    settle(worker, Done())
    assert not classes(empty_redis)
    settle(worker, Done())
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]

    sentence = f"batch {batch.bid} is finished since .* takes no jobs"
    with pytest.raises(errors.BatchRefused, match=sentence), batch.jobs():
        app.send_task("HardJob")
    assert not waiting(empty_redis)
    with pytest.raises(errors.BatchRefused, match="Redis knows no batch nobatch: "):
        app.Batch.find("nobatch")


def test_a_slice_whose_answer_was_lost_is_repeated_and_pushed_once(
    app: Bridge, worker: Worker, empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, lost = app.bridge.store, []
    push_by = store.push_by

    def lose(call: Any) -> Any:
        answer = push_by(call)
        if len(lost) < 2:
            lost.append(answer)
            raise errors.StoreUnavailable("the answer was lost")
        return answer

    monkeypatch.setattr(store, "push_by", lose)
    push(app, 2)
    assert len(waiting(empty_redis)) == 2
    settle(worker, Done(), Done())
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]


def test_a_queue_of_a_wrong_type_does_not_lose_a_callback(
    app: Bridge, worker: Worker, empty_redis: redis.Redis
) -> None:
    push(app)
    empty_redis.set("queue:callbacks", "odd")
    settle(worker, Done())
    assert [json.loads(job)["class"] for job in empty_redis.zrange("schedule", 0, -1)] == [
        "CompleteJob",
        "SuccessJob",
    ]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda app: app.Batch(on_success=5), "on_success: 5: write a class"),
        (lambda app: app.Batch(on_success=app.signature("A", kwargs={"a": 1})), "A: keyword arguments"),
        (lambda app: app.Batch(on_death=app.signature("A", countdown=5)), "on_death: .* remove countdown"),
        (lambda app: app.Batch(on_complete=""), "'' is not the name of a class"),
        (lambda app: app.Batch().on_death("A", object()), r"args\[0\] is a object"),
        (lambda app: app.send_task("A", sidekiq_options={"bridge_batch": "b"}), "with batch.jobs"),
    ],
    ids=["number", "kwargs", "countdown", "empty", "args", "field"],
)
def test_what_cannot_be_a_callback_is_refused_in_one_sentence(
    app: Bridge, empty_redis: redis.Redis, make: Any, sentence: str
) -> None:
    with pytest.raises(errors.PushRefused, match=sentence):
        make(app)
    assert not empty_redis.keys()


def test_a_redis_that_drops_keys_is_refused(app: Bridge, empty_redis: redis.Redis) -> None:
    before = {name: empty_redis.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy")}
    empty_redis.config_set("maxmemory", "500mb")
    empty_redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(errors.BatchRefused, match="maxmemory-policy allkeys-lru"):
            push(app)
    finally:
        for name, value in before.items():
            empty_redis.config_set(name, value)
    assert not empty_redis.keys()


# -- batches in batches


def test_a_batch_waits_for_its_children_and_for_their_callbacks(
    app: Bridge, worker: Worker, empty_redis: redis.Redis
) -> None:
    outer = app.Batch(**all_callbacks(app, "Outer"))
    with outer.jobs():
        app.send_task("HardJob")
        inner = push(app, 1, "Inner")
    assert outer.status().children == 1
    assert inner.status().parent == outer.bid

    settle(worker, Done(), Done())
    assert classes(empty_redis) == ["InnerCompleteJob", "InnerSuccessJob"]
    assert (outer.status().children, outer.status().pending) == (0, 2)

    worker.fetcher.order.add("callbacks", 0)
    settle(worker, Done(), Done())
    assert classes(empty_redis) == ["OuterCompleteJob", "OuterSuccessJob"]
    assert outer.status().state == "done"


def test_a_death_in_a_child_is_a_death_in_its_parents(
    app: Bridge, worker: Worker, empty_redis: redis.Redis
) -> None:
    with app.Batch(**all_callbacks(app, "Outer")).jobs(), app.Batch(**all_callbacks(app, "Middle")).jobs():
        push(app, 2, "Inner")
    settle(worker, BURY)
    assert classes(empty_redis) == ["InnerDeathJob", "MiddleDeathJob", "OuterDeathJob"]
    settle(worker, Done())
    assert classes(empty_redis)[3:] == ["InnerCompleteJob"]


# -- a batch that cannot end by itself


def test_a_deleted_job_is_forgotten_on_demand(app: Bridge, worker: Worker, empty_redis: redis.Redis) -> None:
    batch = push(app, 2)
    jid = waiting(empty_redis)[0]["jid"]
    empty_redis.rpop("queue:default")
    settle(worker, Done())
    assert dict(reader.members(empty_redis, batch.bid)) == {jid: "waiting"}
    assert batch.forget(jid, "unknown") == 1
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]


def test_batches_are_forgotten_after_their_time(
    app: Bridge, worker: Worker, empty_redis: redis.Redis
) -> None:
    old, moved, finished = push(app), push(app), push(app, 0)
    for batch in (old, moved, finished):
        empty_redis.zadd("bridge:batches", {batch.bid: 1})
    empty_redis.hset(f"bridge:batch:{old.bid}", "created_at", "1")
    push(app)
    assert empty_redis.zcard("bridge:batches") == 2
    assert not empty_redis.exists(f"bridge:batch:{old.bid}", f"bridge:batch:{old.bid}:jobs")
    assert moved.status().state == "running"


def test_a_batch_outlives_its_last_scheduled_job(app: Bridge, empty_redis: redis.Redis) -> None:
    """A job that was scheduled in 60 days found its batch forgotten after 30."""
    batch = app.Batch().on_success("ReportJob")
    with batch.jobs():
        app.send_task("HardJob", countdown=60 * 86_400)
        app.send_task("HardJob", countdown=5)
    empty_redis.zadd("bridge:batches", {batch.bid: 1})
    empty_redis.hset(f"bridge:batch:{batch.bid}", "created_at", str(time.time() - 40 * 86_400))
    push(app)
    assert batch.status().state == "running"
    assert empty_redis.zscore("bridge:batches", batch.bid) > time.time() + 89 * 86_400


# -- the command


@pytest.fixture
def bridge(redis_server: RedisServer) -> Command:
    return Command({"BRIDGE_REDIS_URL": redis_server.url_of(15)})


def test_the_command_lists_batches_and_shows_one(
    app: Bridge, worker: Worker, empty_redis: redis.Redis, bridge: Command
) -> None:
    batch = push(app, 2, description="an [import]")
    push(app, 0)
    settle(worker, RETRY)

    listed = bridge("batches").well().out
    assert "running" in listed
    assert "done" in listed
    assert "an [import]" in listed
    assert "idle" in listed
    assert [one["state"] for one in bridge("batches", "--json").json] == ["done", "running"]
    shown = bridge("batches", batch.bid, "--json").json
    assert (shown["pending"], shown["failed"], sorted(shown["waits_for"].values())) == (
        2,
        1,
        ["failed", "waiting"],
    )
    assert shown["bid"] in bridge("batches", batch.bid).well().out
    assert "Redis knows no batch nobatch" in bridge("batches", "nobatch").err


def test_a_job_deleted_in_the_web_ui_is_found_and_forgotten_by_the_command(
    app: Bridge, worker: Worker, empty_redis: redis.Redis, bridge: Command
) -> None:
    batch = push(app, 3)
    deleted = waiting(empty_redis)[2]["jid"]
    empty_redis.lpop("queue:default")
    worker.gate.most = 1
    (held,) = worker.take()

    assert bridge("batches", batch.bid, "--missing", "--json").json == [deleted]
    worker.settle(held)
    settle(worker, Done())
    assert not classes(empty_redis)
    bridge("batches", batch.bid, "--forget", deleted, "--yes").well()
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]


def test_a_batch_whose_push_broke_off_is_closed_by_the_command(
    app: Bridge, worker: Worker, empty_redis: redis.Redis, bridge: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = app.bridge.store, []
    push_by = store.push_by

    def die(call: Any) -> Any:
        calls.append(call)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return push_by(call)

    monkeypatch.setattr(store, "push_by", die)
    with pytest.raises(KeyboardInterrupt):
        push(app, 600)
    settle(worker, *[Done()] * 500)
    assert not classes(empty_redis)
    (status,) = bridge("batches", "--json").json
    assert (status["state"], status["pending"]) == ("open", 0)
    bridge("batches", status["bid"], "--close", "--yes").well()
    assert classes(empty_redis) == ["CompleteJob", "SuccessJob"]


@pytest.mark.parametrize("verb", ["kill", "delete"])
@pytest.mark.parametrize("place", ["queue:default", "schedule"])
def test_a_job_that_a_person_ends_with_the_command_is_dead_to_its_batch(
    app: Bridge, empty_redis: redis.Redis, bridge: Command, place: str, verb: str
) -> None:
    with app.Batch(**all_callbacks(app)).jobs():
        app.send_task("HardJob", countdown=1000 if place == "schedule" else None)
    bridge("jobs", verb, place, "--all", "--yes").well()
    assert classes(empty_redis) == ["DeathJob", "CompleteJob"]


def test_a_revoked_job_is_dead_to_its_batch(app: Bridge, empty_redis: redis.Redis, bridge: Command) -> None:
    push(app)
    bridge("jobs", "cancel", waiting(empty_redis)[0]["jid"], "--yes").well()
    assert classes(empty_redis) == ["DeathJob", "CompleteJob"]


@pytest.mark.parametrize("way", ["jobs delete --all", "purge"])
def test_all_jobs_that_a_person_deletes_end_for_who_waits(
    redis_server: RedisServer, empty_redis: redis.Redis, bridge: Command, way: str
) -> None:
    """``get`` waited without end where no batch was there, and a batch did after a purge."""
    app = make_app(load_settings({"BRIDGE_REDIS_URL": redis_server.url_of(15), "BRIDGE_ALLOW_PURGE": "true"}))
    plain, tracked = app.send_task("HardJob"), app.send_task("HardJob", ignore_result=False)
    batch = app.Batch().on_death(app.signature("AlertJob", queue="low"))
    if way == "purge":
        with batch.jobs():
            app.send_task("HardJob")
        with app.connection_for_write() as connection:
            connection.default_channel.queue_purge("default")
        assert classes(empty_redis, "low") == ["AlertJob"]
    else:
        bridge("jobs", "delete", "queue:default", "--all", "--yes").well()
    with pytest.raises(TaskRevokedError):
        tracked.get(timeout=5)
    assert plain.id
    assert empty_redis.llen("queue:default") == 0


# -- doctor


def diagnosis(bridge: Command) -> dict[str, str]:
    return {one["code"]: one["seen"] for one in bridge("doctor", "--json").json}


def test_doctor_names_a_batch_that_does_not_end(
    app: Bridge, empty_redis: redis.Redis, bridge: Command
) -> None:
    """A person deleted its job where the app does not load the gem; or its push broke off."""
    waiting, broken = push(app, 2, description="March"), push(app)
    empty_redis.rpop("queue:default")
    empty_redis.hset(f"bridge:batch:{broken.bid}", "open", 1)
    assert not {"batch-missing-jobs", "batch-open"} & diagnosis(bridge).keys()
    for batch in (waiting, broken):
        empty_redis.hset(f"bridge:batch:{batch.bid}", "created_at", str(time.time() - 700))
    found = diagnosis(bridge)
    assert found["batch-missing-jobs"].startswith(f"batch {waiting.bid} (March) waits for 1 job in no queue")
    assert broken.bid in found["batch-open"]


def test_doctor_names_jobs_whose_batch_was_dropped(
    app: Bridge, empty_redis: redis.Redis, bridge: Command
) -> None:
    batch = push(app)
    empty_redis.delete(f"bridge:batch:{batch.bid}")
    assert batch.bid in diagnosis(bridge)["batch-unknown"]
