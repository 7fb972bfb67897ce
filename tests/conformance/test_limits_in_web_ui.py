"""Buttons of the Web UI, pressed on jobs that wait at limits."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for

LIMITS = [
    {"class": "SleepJob", "concurrency": 2},
    {"class": "SleepJob", "concurrency": 1, "key": "customer"},
]
CLASS_LINE = "bridge:waiting:SleepJob:all"
CUSTOMER_LINE = "bridge:waiting:SleepJob/customer:x"


@pytest.fixture
def stage(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """Given: the class is full. A job that waits there keeps the place of its customer."""
    with Stage(redis_server, ruby_root, database=12) as made:
        made.start_sidecar()
        made.start_worker("-c", "10", env={"BRIDGE_LIMITS": json.dumps(LIMITS)})
        for customer in ("p", "q"):
            push(made, customer, 25)
        wait_for(lambda: made.ledger.count("started") == 2, "a full class", 30)
        yield made


def push(stage: Stage, customer: str, seconds: float = 0.01) -> str:
    jid: str = stage.push_job({"class": "SleepJob", "args": [seconds], "retry": True, "customer": customer})
    return jid


def waits(stage: Stage, jid: str, line: str) -> bool:
    return any(jid in member.decode() for member in stage.redis.zrange(line, 0, -1))


@pytest.mark.parametrize("button", ["one by one", "selected"])
def test_a_waiting_job_that_is_deleted_frees_what_it_kept(stage: Stage, button: str) -> None:
    """The jobs of its customer waited for its place for ten minutes."""
    kept = push(stage, "x")
    wait_for(lambda: waits(stage, kept, CLASS_LINE), "the job to wait at the class")
    behind = push(stage, "x")
    wait_for(lambda: waits(stage, behind, CUSTOMER_LINE), "the next one to wait at the customer")

    (key,) = [
        f"{entry['score']!r}-{entry['jid']}" for entry in stage.ruby.set("schedule") if entry["jid"] == kept
    ]
    if button == "one by one":
        stage.ruby.post(f"/scheduled/{key}", f"/scheduled/{key}", {"delete": "Delete"})
    else:
        stage.ruby.post("/scheduled", "/scheduled", {"key": [key], "delete": "Delete"})

    wait_for(lambda: waits(stage, behind, CLASS_LINE), "the next one to go on", 4)


def test_a_waiting_job_that_is_added_to_its_queue_keeps_its_place(stage: Stage) -> None:
    kept, later = push(stage, "x"), push(stage, "y")
    for jid in (kept, later):
        wait_for(lambda jid=jid: waits(stage, jid, CLASS_LINE), "the job to wait at the class")
    (key,) = [
        f"{entry['score']!r}-{entry['jid']}" for entry in stage.ruby.set("schedule") if entry["jid"] == kept
    ]
    stage.ruby.post("/scheduled", "/scheduled", {"key": [key], "retry": "Retry Now"})

    wait_for(lambda: stage.redis.zcard("schedule") == 2 and not stage.queued, "the job to wait again", 10)
    first = stage.redis.zrange(CLASS_LINE, 0, 0)[0].decode()
    assert kept in first
