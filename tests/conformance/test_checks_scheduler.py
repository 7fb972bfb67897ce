"""Checks 40 to 46: due entries go to their queues."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from bridge.celery import Bridge
from tests.support.stage import Stage, new_jid
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import holds_for, wait_for, wait_until_equal


def entry(**fields: object) -> str:
    return json.dumps({"class": "EchoJob", "args": [], "jid": new_jid(), **fields})


def test_check_40_a_due_job_goes_to_its_queue(stage: Stage, sidekiq: tuple[int, ...]) -> None:
    created = int(time.time() * 1000) if sidekiq >= (8,) else time.time()
    member = entry(queue="parked", retry=True, created_at=created)
    jid = json.loads(member)["jid"]
    stage.redis.zadd("schedule", {member: time.time() - 1})

    wait_until_equal(lambda: stage.redis.llen("queue:parked"), 1, "jobs in parked")

    assert stage.redis.zcard("schedule") == 0
    assert stage.redis.sismember("queues", "parked")
    (job,) = stage.ruby.queue("parked")
    assert (job["jid"], job["item"]["created_at"]) == (jid, created)
    assert abs(job["enqueued_at"] - time.time()) < 5
    assert "at" not in job["item"]


def test_check_41_a_job_that_is_not_due_waits(stage: Stage) -> None:
    member = entry(queue="parked").encode()
    at = time.time() + 60
    stage.redis.zadd("schedule", {member: at})

    holds_for(lambda: stage.redis.zscore("schedule", member) == at, 2.5, "the entry stays")
    assert stage.redis.llen("queue:parked") == 0


def test_check_42_retry_and_queue_are_filled_in(stage: Stage) -> None:
    # An unknown class without `retry` would be dropped (check 22): that it is retried shows the filling in.
    stage.redis.zadd("schedule", {entry(**{"class": "NoSuchJob"}): time.time() - 1})

    job = stage.only("retry")

    assert (job["retry"], job["queue"]) == (True, "default")


def test_check_43_retries_go_before_scheduled_jobs(stage: Stage) -> None:
    with stage.redis.pipeline(transaction=True) as atomically:
        for number in range(50):
            atomically.zadd("schedule", {entry(queue="parked", args=["schedule", number]): 100 + number})
            atomically.zadd("retry", {entry(queue="parked", args=["retry", number]): 1000 + number})
        atomically.execute()

    wait_until_equal(lambda: stage.redis.llen("queue:parked"), 100, "jobs in parked")

    order = [
        json.loads(payload)["args"][0] for payload in reversed(stage.redis.lrange("queue:parked", 0, -1))
    ]
    assert order == ["retry"] * 50 + ["schedule"] * 50


def test_check_44_with_rubys_poller_beside_it_each_job_is_promoted_once_and_both_promote(
    stage: Stage, stock_sidekiq: StockSidekiq
) -> None:
    # Ruby writes a job anew, compactly; the bridge keeps the bytes, with the blanks that Python put in.
    numbers = iter(range(1_000_000))
    pushed: list[int] = []

    def one_more_round() -> bool:
        batch = [next(numbers) for _ in range(250)]
        stage.redis.zadd("schedule", {entry(queue="parked", args=[n]): 1.0 + n for n in batch})
        pushed.extend(batch)
        wait_until_equal(lambda: stage.redis.zcard("schedule"), 0, "jobs that wait", 30)
        by_bridge = sum(b'": ' in payload for payload in stage.redis.lrange("queue:parked", 0, -1))
        return len(pushed) >= 1000 and 0 < by_bridge < stage.redis.llen("queue:parked")

    wait_for(one_more_round, "both to have promoted some", 60)

    wait_until_equal(lambda: stage.redis.llen("queue:parked"), len(pushed), "jobs in parked")
    holds_for(lambda: stage.redis.llen("queue:parked") <= len(pushed), 1.5, "no job twice")
    promoted = Counter(
        json.loads(payload)["args"][0] for payload in stage.redis.lrange("queue:parked", 0, -1)
    )
    assert promoted == Counter(pushed)


def test_check_45_a_push_from_python_with_a_countdown_changes_schedule_only(
    stage: Stage, producer: Bridge
) -> None:
    before = set(stage.redis.scan_iter())

    jid = producer.send_task("EchoJob", args=[1], countdown=60).id

    assert set(stage.redis.scan_iter()) - before == {b"schedule"}
    job = stage.only("schedule")
    assert job["jid"] == jid
    assert not {"at", "enqueued_at"} & job.keys()
    assert 55 < stage.score("schedule") - time.time() < 61
    (seen,) = stage.ruby.set("schedule")
    assert (seen["display_class"], seen["display_args"]) == ("EchoJob", [1])


def test_check_46_the_bridge_looks_each_second_however_many_processes_there_are(stage: Stage) -> None:
    # Ruby's pollers slow down with the number of processes, because all of them poll; the bridge's moves are
    # atomic and cheap, so it keeps its pace and the cluster loses none.
    others = [f"elsewhere:{number}:0123456789ab" for number in range(9)]
    stage.redis.sadd("processes", *others)
    try:
        for _ in range(3):
            stage.redis.zadd("schedule", {entry(queue="parked"): time.time()})
            wait_for(lambda: stage.redis.zcard("schedule") == 0, "the next poll", 2.0)
    finally:
        stage.redis.srem("processes", *others)


@pytest.mark.parametrize("source", ["retry", "schedule"])
@pytest.mark.parametrize("text", ['{"class":', "[1]"])
def test_a_due_entry_that_is_no_job_is_buried_and_the_next_is_promoted(
    stage: Stage, source: str, text: str
) -> None:
    stage.redis.zadd(source, {text: 1.0, entry(queue="parked"): 2.0})

    wait_until_equal(lambda: stage.redis.llen("queue:parked"), 1, "jobs in parked")

    wait_until_equal(lambda: stage.redis.zcard("dead"), 1, "jobs in dead")
    stage.ruby.get("/morgue").assert_fine()
    assert stage.redis.zcard(source) == 0
