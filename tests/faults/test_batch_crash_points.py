"""A process dies between any two Redis commands of the life of a batch: each crash point in turn."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import redis

from bridge.batches import block, effects, reader
from bridge.celery import Bridge, make_app
from bridge.redis import scripts
from bridge.settings import load as load_settings
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.decision import Bury, Done, Retry
from bridge.sidekiq.store import lua
from tests.faults.test_every_crash_point import LONG_AGO, Died, Fuse, reap
from tests.integration.worker import Worker, connect_to
from tests.support import census, redis_users
from tests.support.redis_server import RedisServer

EVENTS = ("complete", "success", "death")
JOBS = 5


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    fuse = Fuse()
    monkeypatch.setattr(scripts, "run", fuse.run)
    monkeypatch.setattr(block, "SLICE_JOBS", 2)
    return fuse


@pytest.mark.short
def test_no_crash_point_of_a_batch_loses_or_doubles_a_callback(redis_server: RedisServer, fuse: Fuse) -> None:
    points = 0
    while live_once(redis_server, fuse, points + 1):
        points += 1
    # Three slices and a child, the settlements, and a job that is forgotten.
    assert points >= 13


def live_once(server: RedisServer, fuse: Fuse, commands: int) -> bool:
    """Die after so many commands, let another worker finish, and check. False when it lived to its end."""
    client = connect_to(server.port, database=14)
    client.flushdb()
    app = make_app(load_settings({"BRIDGE_REDIS_URL": redis_users.for_bridge(server.url_of(14))}))
    worker, last = (_worker(server, n) for n in range(2))
    died = False
    fuse.left = commands
    try:
        whole_life(app, worker)
    except Died:
        died = True
    fuse.left = None
    client.zadd("bridge:lease", {worker.identity: LONG_AGO}, xx=True)

    finish(client, last)
    check(client, app, last)
    for each in (worker, last):
        each.close()
    client.close()
    return died


def _worker(server: RedisServer, number: int) -> Worker:
    worker = Worker(f"host:{number}", server.port, 14, slots=8)
    worker.store.effects.sources.append(effects.effects)
    return worker


def whole_life(app: Bridge, worker: Worker) -> None:
    """Push a batch with a child, run it with each kind of end, and forget a job."""
    outer, inner = app.Batch("outer"), app.Batch("inner")
    for event in EVENTS:
        getattr(outer, f"on_{event}")(app.signature(f"Outer{event}", queue="callbacks"))
        getattr(inner, f"on_{event}")(app.signature(f"Inner{event}"))
    with outer.jobs():
        for number in range(JOBS):
            app.send_task("HardJob", args=[number])
        with inner.jobs():
            app.send_task("HardJob", args=["inner"])
    worker.lease.register()
    worker.gate.most = 4
    first, second, third, fourth = worker.take()
    worker.settle(first, Done())
    worker.settle(second, Retry(1.0, second.job.with_fields({"retry_count": 0})))
    worker.settle(third, Bury(third.delivery.payload))
    worker.settle(fourth, Done())
    client = worker.client
    client.zrem("dead", third.delivery.payload)
    outer.forget(str(third.job.jid))


def finish(client: redis.Redis, worker: Worker) -> None:
    """Whatever happened: the jobs that are left run, and are done."""
    worker.lease.register()
    for _ in range(20):
        reap(worker)
        for name in ("retry", "dead"):
            for payload in client.zrange(name, 0, -1):
                client.lpush("queue:default", payload)
                client.zrem(name, payload)
        for unit in worker.take():
            worker.settle(unit, Done())
    assert not client.exists("queue:default", "retry", "dead")
    assert not census.inflight(client)


def check(client: redis.Redis, app: Bridge, worker: Worker) -> None:
    """A batch whose push broke off stays open, without callbacks, until a person closes it."""
    batches = {one.description: one for one in reader.newest(client)}
    outer = batches.get("outer")
    if outer is None:
        return
    if outer.is_open:
        assert not {"Outercomplete", "Outersuccess"} & pushed(client).keys()
        for one in batches.values():
            if one.is_open:
                app.bridge.store.push_by(_close(one.bid))
        finish(client, worker)
    else:
        assert batches["inner"].success_at is not None
    for payload in forgotten(client, outer.bid):
        app.Batch.find(outer.bid).forget(payload)
    counts = pushed(client)
    assert (counts["Outercomplete"], counts["Outersuccess"]) == (1, 1)
    assert counts["Outerdeath"] <= 1
    found = reader.status(client, outer.bid)
    assert found is not None
    assert (found.state, found.pending, found.children, found.failed, found.dead) == ("done", 0, 0, 0, 0)


def _close(bid: str) -> scripts.Call:
    return scripts.Call(lua.load("batch_forget"), (keys.batch(bid), keys.batch_jobs(bid)), (bid, 1))


def forgotten(client: redis.Redis, bid: str) -> list[str]:
    """The job that the test has deleted from the dead set, as a person would."""
    return [name for name, _ in reader.members(client, bid)]


def pushed(client: redis.Redis) -> Counter[str]:
    found: list[Any] = client.lrange("queue:callbacks", 0, -1)
    return Counter(json.loads(payload)["class"] for payload in found)
