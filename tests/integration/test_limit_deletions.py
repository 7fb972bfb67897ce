"""A person deletes a job that waits in one line and keeps a place at a narrower limit."""

from __future__ import annotations

import json
import time

import pytest
import redis

from bridge.limits.lines import Lines
from bridge.sidekiq import keys
from bridge.sidekiq.store.store import RedisStore
from tests.integration.test_limit_scripts import ME, Fleet
from tests.integration.worker import as_bridge, connect_to, job, next_first
from tests.support.redis_server import RedisServer

CLASS_AND_KEY = [
    {"class": "HardJob", "concurrency": 2},
    {"class": "HardJob", "concurrency": 1, "key": "args.0"},
]
CLASS_LINE, KEY_LINE = "HardJob:all", "HardJob/args.0:x"


@pytest.fixture
def fleet(store: RedisStore) -> Fleet:
    """Given: the class is full. ``kept`` waits there and keeps its place at the key; ``behind`` does not."""
    store.lease(ME, 60_000, register=True)
    made = Fleet(store, CLASS_AND_KEY)
    assert all(made.take(job(jid=jid, args=[jid])) for jid in ("runs0", "runs1"))
    for jid in ("kept", "behind"):
        assert not made.take(job(jid=jid, args=["x"]))
    assert made.line(CLASS_LINE) == ["kept"]
    assert made.line(KEY_LINE) == ["behind"]
    return made


@pytest.fixture
def lines(fleet: Fleet) -> Lines:
    """The thread that moves lines, once it has looked."""
    made = Lines(fleet.client, fleet.limits, lambda: ME)
    made.round()
    return made


def in_schedule(client: redis.Redis, jid: str) -> bytes:
    return next(one for one in client.zrange("schedule", 0, -1) if json.loads(one)["jid"] == jid)


def look(lines: Lines) -> None:
    lines._look_at = 0.0
    lines.round()


def next_to_run(fleet: Fleet) -> list[str]:
    ran = []
    while fleet.client.llen("queue:default"):
        jid, may_run = fleet.next()
        ran += [jid] if may_run else []
    return ran


def test_the_next_job_of_the_key_goes_on_at_the_next_look(fleet: Fleet, lines: Lines) -> None:
    """It waited for the place of the deleted job for ten minutes."""
    fleet.client.zrem("schedule", in_schedule(fleet.client, "kept"))
    look(lines)
    assert next_to_run(fleet) == []
    assert fleet.line(CLASS_LINE) == ["behind"]
    fleet.settle("runs0")
    assert next_to_run(fleet) == ["behind"]
    assert not fleet.client.exists(keys.LINES)


def test_a_newcomer_of_the_key_runs_though_no_other_job_of_it_waits(fleet: Fleet, lines: Lines) -> None:
    for jid in ("kept", "behind"):
        fleet.client.zrem("schedule", in_schedule(fleet.client, jid))
    look(lines)
    fleet.settle("runs0")
    assert next_to_run(fleet) == []
    assert fleet.take(job(jid="newcomer", args=["x"]))


def test_a_job_that_a_person_adds_to_its_queue_frees_its_key_and_keeps_its_place(
    fleet: Fleet, lines: Lines
) -> None:
    fleet.take(job(jid="later", args=["y"]))
    payload = in_schedule(fleet.client, "kept")
    fleet.client.zrem("schedule", payload)
    fleet.client.lpush("queue:default", payload)
    look(lines)
    # It was behind the job that left the line of its key. It is before the others of the class all the same.
    while fleet.client.llen("queue:default"):
        fleet.next()
    assert fleet.line(CLASS_LINE)[0] == "kept"
    assert "later" in fleet.line(CLASS_LINE)


def test_jobs_of_other_people_in_schedule_hide_no_deletion(fleet: Fleet, lines: Lines) -> None:
    fleet.take(job(jid="last", args=["z"]))
    first, last = (
        score for _, score in fleet.client.zrange(keys.gate(CLASS_LINE)[2], 0, -1, withscores=True)
    )
    fleet.client.zadd("schedule", {job(jid="other"): (first + last) / 2})
    look(lines)
    fleet.client.zrem("schedule", in_schedule(fleet.client, "kept"))
    look(lines)
    assert fleet.line(KEY_LINE) == []


def test_a_look_costs_one_command_while_no_job_keeps_a_place(own_server: RedisServer) -> None:
    store = RedisStore(as_bridge(connect_to(own_server.port)))
    store.lease(ME, 60_000, register=True)
    fleet = Fleet(store, [{"class": "HardJob", "concurrency": 1}])
    fleet.take(job(jid="runs"))
    assert not fleet.take(job(jid="waits"))
    lines = Lines(fleet.client, fleet.limits, lambda: ME)
    lines.round()
    before = fleet.client.info("commandstats")
    look(lines)
    after = fleet.client.info("commandstats")
    spent = {
        name.removeprefix("cmdstat_"): stats["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, stats in after.items()
        if stats["calls"] != before.get(name, {"calls": 0})["calls"]
    }
    assert spent == {"hkeys": 1, "zrangebyscore": 1, "info": 1}
    store.client.close()


def test_a_line_that_was_renewed_keeps_the_order_of_claims(store: RedisStore) -> None:
    """A job that was parked after a renewal stood behind all that a faster worker had parked."""
    store.lease(ME, 60_000, register=True)
    fleet = Fleet(store, [{"class": "HardJob", "concurrency": 1}])
    fleet.take(job(jid="runs"))
    now = float(fleet.client.time()[0]) - 10
    for number in range(150):
        fleet.take(job(jid=f"a{number:03d}"), f"{now + number / 1e6:.7f}")
    # Given the line is renewed
    for key in ("schedule", keys.gate(CLASS_LINE)[2]):
        for member, at in fleet.client.zrange(key, 0, -1, withscores=True):
            fleet.client.zadd(key, {member: at - 500})
    fleet.client.hset(keys.LINES, CLASS_LINE, str(-500_000_000))
    fleet.client.zadd(keys.WAITING, {CLASS_LINE: 1})
    Lines(fleet.client, fleet.limits, lambda: ME).round()
    assert fleet.client.zrange("schedule", 0, 0, withscores=True)[0][1] > time.time() + 550
    # When two workers park their claims in the other order
    for jid, after in (("c", 3), ("b", 2)):
        fleet.take(job(jid=jid), f"{now + after:.7f}")
    assert fleet.line(CLASS_LINE) == [*(f"a{number:03d}" for number in range(150)), "b", "c"]
    assert len(next_first(fleet.client)) == 0
