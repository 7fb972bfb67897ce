"""A push goes one of two ways; both must leave the same in Redis."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import signals
from celery.result import AsyncResult
from kombu import Queue
from kombu.exceptions import OperationalError

from bridge.celery import Bridge, make_app
from bridge.errors import PushRefused
from bridge.redis.pipeline import KeptConnections
from bridge.settings import load as load_settings
from tests.support import redis_users
from tests.support.redis_server import RedisServer

JID = "b4a577edbccf1d805744efa9"
NUMBERS = itertools.count()


@pytest.fixture
def client(own_server: RedisServer) -> Iterator[redis.Redis]:
    client = own_server.client()
    yield client
    client.close()


@pytest.fixture
def app(own_server: RedisServer) -> Bridge:
    return make_app(load_settings({"BRIDGE_REDIS_URL": redis_users.for_bridge(own_server.url)}))


@pytest.fixture
def celerys(app: Bridge, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Celery's producer was given."""
    sent: list[Any] = []
    theirs = app.amqp.send_task_message

    def send(producer: Any, name: str, message: Any, **options: Any) -> Any:
        sent.append(name)
        return theirs(producer, name, message, **options)

    monkeypatch.setattr(app.amqp, "send_task_message", send)
    return sent


def everything(client: redis.Redis) -> dict[str, Any]:
    """All of Redis, without the times of the pushes."""
    jobs = {}
    for key in client.scan_iter():
        if key == b"queues":
            jobs[key.decode()] = client.smembers(key)
        elif key == b"schedule":
            found = client.zrange(key, 0, -1, withscores=True)
            jobs[key.decode()] = [(_timeless(job), round(at / 60)) for job, at in found]
        else:
            jobs[key.decode()] = [_timeless(job) for job in client.lrange(key, 0, -1)]
    client.flushdb()
    return jobs


def _timeless(payload: bytes) -> list[tuple[str, Any]]:
    return [
        (name, type(value) if name.endswith("_at") else value) for name, value in json.loads(payload).items()
    ]


@pytest.mark.parametrize(
    "push",
    [
        {"args": [1, 1.0, "ü", None, {"a": [True]}, 10**40, "\ud800"]},
        {"args": ()},
        {},
        {"queue": "low"},
        {"countdown": 3600},
        {"countdown": 0},
        {"sidekiq_options": {"retry": 3, "tags": ["a"], "queue": "mine"}},
        {"ignore_result": True, "shadow": "shown", "time_limit": 7},
    ],
)
def test_both_ways_leave_the_same_job(
    app: Bridge, client: redis.Redis, celerys: list[Any], push: dict[str, Any]
) -> None:
    app.send_task("HardJob", task_id=JID, **push)
    assert celerys == []
    short = everything(client)
    # An option that means nothing here, and that the short way does not know.
    app.send_task("HardJob", task_id=JID, retry=True, **push)
    assert celerys == ["HardJob"]

    assert everything(client) == short != {}
    assert sum(app.bridge.pushes.counts().values()) == 2


def test_a_task_that_is_named_goes_where_it_says_itself(
    app: Bridge, client: redis.Redis, celerys: list[Any]
) -> None:
    """The short way knew only ``sidekiq_options``: such a job went to the default queue."""
    name = f"PushedJob{next(NUMBERS)}"

    @app.task(name=name, queue="critical")
    def task() -> None:
        """Nothing."""

    app.send_task(name)
    assert celerys == []
    assert client.llen("queue:critical") == 1
    app.send_task(name, queue="other")
    assert client.llen("queue:other") == 1


@pytest.mark.parametrize("option", [{"expires": 60}, {"priority": 5}])
def test_what_a_task_wants_and_a_job_cannot_carry_is_refused_where_it_is_named(
    app: Bridge, client: redis.Redis, option: dict[str, Any]
) -> None:
    name = f"PushedJob{next(NUMBERS)}"

    @app.task(name=name, **option)
    def task() -> None:
        """Nothing."""

    with pytest.raises(PushRefused):
        app.send_task(name)
    assert not client.keys("queue:*")


def test_without_retries_a_push_into_an_outage_is_tried_once(
    app: Bridge, own_server: RedisServer, celerys: list[Any]
) -> None:
    app.conf.task_publish_retry = False
    own_server.process.kill()
    with pytest.raises(OperationalError):
        app.send_task("HardJob")
    assert celerys == []


def test_delay_and_apply_async_of_a_native_task_go_the_short_way(
    app: Bridge, client: redis.Redis, celerys: list[Any]
) -> None:
    @app.task(name=f"PushedJob{next(NUMBERS)}", sidekiq_options={"retry": 2})
    def task(number: int) -> None:
        """Nothing."""

    found = [task.delay(1), task.apply_async((2,), countdown=60)]

    assert celerys == []
    assert all(isinstance(result, AsyncResult) for result in found)
    (job,) = client.lrange("queue:default", 0, -1)
    assert json.loads(job)["jid"] == found[0].id
    assert json.loads(job)["retry"] == 2
    (later,) = client.zrange("schedule", 0, -1)
    assert json.loads(later)["args"] == [2]


@pytest.mark.parametrize("signal", [signals.before_task_publish, signals.after_task_publish])
def test_whoever_listens_for_pushes_hears_of_them(app: Bridge, client: redis.Redis, signal: Any) -> None:
    heard: list[Any] = []

    def receiver(sender: Any = None, **_: Any) -> None:
        heard.append(sender)

    signal.connect(receiver, weak=False)
    try:
        app.send_task("HardJob")
    finally:
        signal.disconnect(receiver)

    assert heard == ["HardJob"]
    assert client.llen("queue:default") == 1


def test_the_users_routes_and_declarations_lead_where_they_say(app: Bridge, client: redis.Redis) -> None:
    app.conf.task_queues = [Queue("far", routing_key="near"), Queue("near", routing_key="far")]
    app.conf.task_routes = {"RoutedJob": {"queue": "routed"}}

    app.send_task("RoutedJob")
    app.send_task("HardJob", queue="plain")

    assert client.llen("queue:routed") == client.llen("queue:plain") == 1


def test_a_push_into_an_outage_ends_as_celery_ends_it(app: Bridge, own_server: RedisServer) -> None:
    app.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    app.send_task("HardJob")
    own_server.stop()

    with pytest.raises(OperationalError):
        app.send_task("HardJob")


def test_a_push_after_a_restart_of_redis_succeeds_at_once(app: Bridge, own_server: RedisServer) -> None:
    # The connection that is kept was closed meanwhile, and nothing was sent that could come twice.
    app.send_task("HardJob")
    own_server.stop()
    own_server.start()

    app.bridge.store.push("default", b"{}")

    client = own_server.client()
    assert client.llen("queue:default") >= 1
    client.close()


def test_a_refusal_of_redis_is_told(app: Bridge, client: redis.Redis) -> None:
    client.set("queue:default", "no list")

    with pytest.raises(Exception, match="WRONGTYPE"):
        app.send_task("HardJob")


def test_a_forked_process_does_not_use_its_parents_connection(own_server: RedisServer) -> None:
    client = own_server.client()
    lines = KeptConnections(client)
    parents = lines.send([("CLIENT", "ID")])
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.write(writing, str(lines.send([("CLIENT", "ID")])[0]).encode())
        os._exit(0)
    os.waitpid(pid, 0)

    assert int(os.read(reading, 100)) not in parents
    assert lines.send([("CLIENT", "ID")]) == parents
    client.close()
