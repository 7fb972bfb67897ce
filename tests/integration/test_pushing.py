"""A push goes one of two ways; both must leave the same in Redis."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import pytest
import redis
from celery import signals
from celery.exceptions import QueueNotFound
from celery.result import AsyncResult, ResultSet
from kombu import Exchange, Queue
from kombu.common import Broadcast
from kombu.exceptions import OperationalError

from bridge.celery import Bridge, make_app
from bridge.errors import NotTracked, PushRefused, ResultError, ResultUnknown
from bridge.redis.pipeline import KeptConnections
from bridge.settings import load as load_settings
from tests.support import redis_users
from tests.support.forks import begin_in_fork, status_of
from tests.support.redis_server import RedisServer

JID = "b4a577edbccf1d805744efa9"
NUMBERS = itertools.count()


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
        {"args": [1, 1.0, "ü", None, {"a": [True]}, 10**40]},
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
    child = begin_in_fork(lambda: os.write(writing, str(lines.send([("CLIENT", "ID")])[0]).encode()) and 0)

    assert status_of(child) == 0
    assert int(os.read(reading, 100)) not in parents
    assert lines.send([("CLIENT", "ID")]) == parents
    client.close()


ROUTED: list[tuple[dict[str, Any], str]] = [
    ({"exchange": "media", "routing_key": "media.video"}, "videos"),
    ({"exchange": Exchange("media"), "routing_key": "media.video"}, "videos"),
    ({"exchange": "feeds", "routing_key": "feed.import"}, "imports"),
    ({"queue": "videos"}, "videos"),
    ({"queue": "imports"}, "imports"),
    ({"queue": "imports", "routing_key": "feed.other"}, "imports"),
    ({"queue": Queue("videos", Exchange("media"), routing_key="media.video")}, "videos"),
    ({"exchange": "", "routing_key": "plain"}, "plain"),
    ({}, "default"),
]


@pytest.mark.parametrize(("options", "queue"), ROUTED)
@pytest.mark.parametrize("by", ["push", "route", "task"])
def test_exchanges_and_keys_lead_to_the_declared_queue(
    app: Bridge, client: redis.Redis, options: dict[str, Any], queue: str, by: str
) -> None:
    # An id was returned and nothing was written; a topic exchange published the job to no reader.
    name = f"PushedJob{next(NUMBERS)}"
    app.conf.task_queues = [
        Queue("default"),
        Queue("videos", Exchange("media"), routing_key="media.video"),
        Queue("imports", Exchange("feeds", type="topic"), routing_key="feed.#"),
    ]
    if by == "route":
        app.conf.task_routes = {name: dict(options)}
    if by == "task":

        @app.task(name=name, **options)
        def task() -> None:
            """Nothing."""

    app.send_task(name, **(options if by == "push" else {}))

    assert client.keys("queue:*") == [f"queue:{queue}".encode()]
    assert client.llen(f"queue:{queue}") == 1


@pytest.mark.parametrize(
    "options", [{"exchange": "nowhere", "routing_key": "x"}, {"queue": "everybody"}, {"exchange": "fan"}]
)
def test_a_place_that_is_no_queue_is_refused(
    app: Bridge, client: redis.Redis, options: dict[str, Any]
) -> None:
    app.conf.task_queues = [Queue("default"), Broadcast("everybody"), Queue("fan", Exchange("fan", "fanout"))]
    app.conf.task_routes = {"RoutedJob": dict(options)}

    for push in (lambda: app.send_task("HardJob", **options), lambda: app.send_task("RoutedJob")):
        with pytest.raises(PushRefused, match=r"a Sidekiq job is in one|no declared queue"):
            push()
    assert not client.keys("*")


def test_a_queue_that_is_not_declared_is_refused_where_celery_refuses_it(app: Bridge) -> None:
    # The short way pushed to it, whatever task_create_missing_queues said.
    app.conf.task_create_missing_queues = False
    with pytest.raises(QueueNotFound):
        app.send_task("HardJob", queue="elsewhere")


@pytest.mark.parametrize(
    "option", [{"serializer": "json"}, {"delivery_mode": 2}, {"delivery_mode": "persistent"}]
)
def test_an_option_that_says_what_is_so_changes_nothing(
    app: Bridge, client: redis.Redis, option: dict[str, Any]
) -> None:
    app.send_task("HardJob", args=[1], task_id=JID)
    plain = everything(client)
    app.send_task("HardJob", args=[1], task_id=JID, **option)
    assert everything(client) == plain


@pytest.mark.parametrize("setting", [{"task_compression": "zlib"}, {"task_protocol": 1}])
@pytest.mark.parametrize("options", [{}, {"retry": True}])
def test_a_setting_about_messages_leaves_the_payload_as_it_is(
    app: Bridge, client: redis.Redis, setting: dict[str, Any], options: dict[str, Any]
) -> None:
    app.send_task("HardJob", args=[1], task_id=JID)
    plain = everything(client)
    app.conf.update(setting)
    app.send_task("HardJob", args=[1], task_id=JID, **options)
    assert everything(client) == plain


def test_a_connection_of_the_application_may_be_named(app: Bridge, client: redis.Redis) -> None:
    with app.connection_for_write() as connection, app.producer_pool.acquire(block=True) as producer:
        app.send_task("HardJob", connection=connection)
        app.send_task("HardJob", producer=producer)
    assert client.llen("queue:default") == 2


def test_what_a_push_says_of_itself_is_in_the_payload(app: Bridge, client: redis.Redis) -> None:
    """They were dropped without a word."""
    sentry = {"sentry-trace": "a-b-1", "baggage": "c=d"}
    app.send_task("HardJob", shadow="Shown", headers={"tenant": 7, **sentry})

    (job,) = (json.loads(each) for each in client.lrange("queue:default", 0, -1))
    assert job["display_class"] == "Shown"
    assert job["bridge_headers"] == {"tenant": 7, **sentry}
    assert job["trace_propagation_headers"] == sentry


def test_headers_that_a_signal_adds_are_in_the_payload_too(app: Bridge, client: redis.Redis) -> None:
    # Celery's guide: a receiver of before_task_publish may add headers. They were dropped.
    seen: list[Any] = []

    def receiver(headers: dict[str, Any], **_: Any) -> None:
        seen.append(headers.get("tenant"))
        headers.update(trace="t-1", span=object())

    signals.before_task_publish.connect(receiver, weak=False)
    try:
        app.send_task("HardJob", headers={"tenant": 7, "task": "mine"}, sidekiq_options={"retry": 3})
    finally:
        signals.before_task_publish.disconnect(receiver)

    (job,) = (json.loads(each) for each in client.lrange("queue:default", 0, -1))
    assert seen == [7]
    assert job["bridge_headers"] == {"tenant": 7, "task": "mine", "trace": "t-1"}
    assert (job["class"], job["retry"]) == ("HardJob", 3)


LOOKS: dict[str, Any] = {
    "get": lambda result: result.get(timeout=1),
    "wait": lambda result: result.wait(timeout=1),
    "state": lambda result: result.state,
    "status": lambda result: result.status,
    "result": lambda result: result.result,
    "info": lambda result: result.info,
    "traceback": lambda result: result.traceback,
    "ready": lambda result: result.ready(),
    "successful": lambda result: result.successful(),
    "failed": lambda result: result.failed(),
    "name": lambda result: result.name,
    "date_done": lambda result: result.date_done,
    "retries": lambda result: result.retries,
    "maybe_throw": lambda result: result.maybe_throw(),
    "collect": lambda result: list(result.collect(timeout=1)),
    "children": lambda result: result.children,
    "ResultSet": lambda result: ResultSet([result]).join(timeout=1),
}


@pytest.mark.parametrize("backend", [None, "redis://127.0.0.1:1/0"])
@pytest.mark.timeout(60)
def test_a_result_of_an_untracked_job_is_refused_at_once_however_it_is_asked_for(
    app: Bridge, backend: str | None
) -> None:
    """It was None at once, an AttributeError, or a wait without an end."""
    if backend is not None:
        app.conf.result_backend = backend

    @app.task(name=f"PushedJob{next(NUMBERS)}")
    def task() -> None:
        """Nothing."""

    results = {
        "short": task.delay(),
        "celerys": task.apply_async(retry=True),
        "by name": app.send_task("HardJob"),
        "by id": app.AsyncResult(JID),
    }
    for (way, result), (look, ask) in itertools.product(results.items(), LOOKS.items()):
        try:
            found = ask(result)
        except ResultError as refusal:
            assert refusal.__class__ is (ResultUnknown if way == "by id" else NotTracked)  # noqa: PT017
        else:
            pytest.fail(f"{look} of a result {way} gives {found!r}")


def test_a_task_that_is_called_as_a_function_may_update_its_state(app: Bridge) -> None:
    @app.task(name=f"PushedJob{next(NUMBERS)}", bind=True)
    def task(self: Any) -> bool:
        self.update_state(state="PROGRESS", meta={"done": 5})
        return bool(self.progress(1, 2))

    assert task() is False
