"""The transport on a real Redis, without a Celery worker above it: waiting, waking, broadcasts, replies."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.worker.pidbox import Pidbox
from kombu.exceptions import OperationalError

from bridge import errors
from bridge.celery import make_app
from bridge.settings import load as load_settings
from bridge.sidecar.breaker import State
from bridge.sidekiq.outcome.decision import Done
from tests.integration.worker import connect_to, job, next_first, push
from tests.support import redis_users
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for


class Consumer:
    """Consumes job queues on one connection, as Celery's worker does."""

    def __init__(self, url: str, *queues: str, slots: int = 4) -> None:
        own = {"BRIDGE_REDIS_URL": redis_users.for_bridge(url), "BRIDGE_QUEUES": ",".join(queues)}
        self.app: Any = make_app(load_settings(own))
        self.runtime = self.app.bridge
        self.runtime.breaker.state = State.CLOSED
        self.fetcher = self.runtime.fetcher
        self.messages: list[Any] = []
        self.slots = slots
        self.queues = queues
        self.connect()

    def connect(self) -> None:
        self.connection = self.app.connection_for_read()
        self.channel = self.connection.channel()
        self.channel.basic_qos(0, self.slots, False)
        for queue in self.queues:
            self.channel.basic_consume(queue, False, self.messages.append, queue)

    def drain(self, seconds: float = 5.0) -> None:
        """One turn of Celery's loop."""
        self.connection.drain_events(timeout=seconds)

    def settle_all(self) -> None:
        while self.messages:
            message = self.messages.pop()
            self.fetcher.in_flight.started(message.delivery_tag, time.time())
            message.ack()

    def take_by_claims_only(self) -> None:
        """No watch takes a job: what is given back stays in its queue."""
        self.fetcher.arrivals.may_take = lambda queue: False

    def idle(self, seconds: float) -> None:
        """Turn until nothing has come for so long."""
        with pytest.raises(TimeoutError):
            self.drain(seconds)

    def wait_latency(self, client: redis.Redis, queue: str) -> float:
        """Seconds from a push, while the consumer waits, to the job's delivery."""
        pushed: list[float] = []

        def push_later() -> None:
            # Not before the consumer waits: its peek is what is measured.
            wait_for(lambda: b"cmd=blmove" in client.execute_command("CLIENT", "LIST"), "a peek")
            pushed.append(time.monotonic())
            push(client, queue, job())

        thread = threading.Thread(target=push_later)
        thread.start()
        self.drain(8)
        thread.join()
        return time.monotonic() - pushed[0]

    def close(self) -> None:
        self.connection.close()


Maker = Callable[..., Consumer]


@pytest.fixture
def make_consumer() -> Iterator[Maker]:
    made: list[Consumer] = []

    def make(url: str, *queues: str, **options: Any) -> Consumer:
        made.append(Consumer(url, *queues, **options))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


@pytest.fixture
def client(own_server: RedisServer) -> Iterator[redis.Redis]:
    with connect_to(own_server.port) as made:
        yield made


def commands(client: redis.Redis) -> int:
    return sum(stat["calls"] for stat in client.info("commandstats").values())


# -- waiting


def test_a_job_wakes_the_consumer_within_a_fraction_of_its_poll(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "default")
    consumer.wait_latency(client, "default")
    consumer.settle_all()
    assert consumer.wait_latency(client, "default") < 0.3


def test_a_killed_peek_is_armed_again_and_still_wakes(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    """Its closed socket stayed in the selector; the new one got the same number and was never waited for."""
    consumer = make_consumer(own_server.url, "default")
    consumer.idle(0.2)
    for _ in range(3):
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        consumer.idle(1.2)
    assert consumer.wait_latency(client, "default") < 0.3


def test_a_freed_slot_wakes_the_consumer(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    """Celery's own virtual transport sleeps a second when all slots are busy."""
    consumer = make_consumer(own_server.url, "default", slots=1)
    push(client, "default", job(), job())
    consumer.drain()
    (message,) = consumer.messages
    consumer.fetcher.in_flight.started(message.delivery_tag, 1.0)
    started = time.monotonic()
    threading.Timer(0.1, message.ack).start()
    consumer.drain()
    assert len(consumer.messages) == 2
    assert time.monotonic() - started < 0.6


def test_an_idle_consumer_asks_redis_almost_nothing(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "high", "default", "low")
    consumer.idle(0.3)
    before = commands(client)
    consumer.idle(3.0)
    # A claim a second, with the commands inside its script: lease, time, pause and pop of three queues.
    assert (commands(client) - before) / 3 < 16


@pytest.mark.parametrize("case", ["paused", "wrong type", "ruby jobs while the sidecar is away"])
def test_a_queue_that_may_not_be_taken_from_is_no_hot_loop(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker, case: str
) -> None:
    consumer = make_consumer(own_server.url, "default")
    if case == "wrong type":
        client.set("queue:default", "x")
    else:
        push(client, "default", job())
    if case == "paused":
        client.sadd("paused", "default")
    if case.startswith("ruby"):
        consumer.runtime.breaker.state = State.OPEN
        consumer.runtime.gate.follow()
    consumer.idle(0.3)
    before = commands(client)
    consumer.idle(3.0)
    assert (commands(client) - before) / 3 < 60
    assert consumer.messages == []


@pytest.mark.parametrize("during_an_outage", [False, True])
def test_without_a_queue_the_consumer_rests(
    own_server: RedisServer, make_consumer: Maker, during_an_outage: bool
) -> None:
    """`cancel_consumer` of the last queue took a whole core: the next turn was always due at once."""
    consumer = make_consumer(own_server.url, "default")
    consumer.idle(0.3)
    if during_an_outage:
        own_server.stop()
        consumer.idle(0.5)
    consumer.channel.basic_cancel("default")
    consumer.idle(1.2)

    before = time.process_time()
    consumer.idle(2.0)
    assert time.process_time() - before < 0.3


def test_queues_beyond_the_watched_ones_are_looked_at_every_second(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, *(f"q{n}" for n in range(7)))
    consumer.idle(0.2)
    push(client, "q6", job())
    consumer.drain(3)
    assert len(consumer.messages) == 1


def test_many_big_jobs_and_their_settlements_leave_nothing(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "default")
    push(client, "default", *[job(pad="x" * 300_000) for _ in range(20)])
    while int(client.get("stat:processed") or 0) < 20:
        consumer.drain()
        consumer.settle_all()
        consumer.fetcher.turn(claim=False)
    assert not client.keys("bridge:inflight:*")


def test_the_consumer_survives_a_redis_that_is_restarted(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "default")
    push(client, "default", job())
    consumer.drain()
    own_server.stop()
    consumer.settle_all()
    consumer.idle(0.5)
    own_server.start()
    push(client, "default", job())
    consumer.drain(6)
    assert len(consumer.messages) == 1


# -- what was handed over


def test_claims_that_fail_while_settlements_succeed_are_told_once(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    # Each settlement counted as the end of the outage: ten lines a second, and a claim at each.
    consumer = make_consumer(own_server.url, "default", slots=3)
    consumer.take_by_claims_only()
    push(client, "default", job(), job())
    while len(consumer.messages) < 2:
        consumer.drain()

    def refuse(*_: object) -> None:
        raise errors.StoreError("NOPERM this user may not claim")

    consumer.fetcher._request = refuse
    push(client, "default", job())
    for _ in range(2):
        consumer.fetcher.in_flight.started(consumer.messages[0].delivery_tag, time.time())
        consumer.messages.pop(0).ack()
        with pytest.raises(TimeoutError):
            consumer.drain(1.5)

    assert sum("fetching" in record.message for record in caplog.records) == 1


def test_a_fault_while_handing_over_gives_the_job_back(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = make_consumer(own_server.url, "default")
    jobs = [job(), job()]
    push(client, "default", *jobs)
    monkeypatch.setattr(type(consumer.channel), "message_for", lambda *_: 1 / 0)
    consumer.drain()
    consumer.fetcher.turn(claim=False)
    assert next_first(client) == jobs


def test_a_rejected_message_is_buried_and_never_dropped(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "default")
    consumer.take_by_claims_only()
    push(client, "default", job(), job())
    consumer.drain()
    first, second = consumer.messages
    first.reject()
    second.requeue()
    consumer.fetcher.turn(claim=False)
    assert client.zcard("dead") == 1
    assert client.llen("queue:default") == 1
    assert client.get("stat:processed") is None


def test_an_ack_of_a_job_that_never_started_gives_it_back(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "default")
    consumer.take_by_claims_only()
    push(client, "default", payload := job())
    consumer.drain()
    consumer.messages[0].ack()
    consumer.fetcher.turn(claim=False)
    assert next_first(client) == [payload]


def test_jobs_that_run_while_the_connection_is_replaced_are_settled(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "default")
    push(client, "default", job())
    consumer.drain()
    (message,) = consumer.messages
    consumer.close()
    consumer.connect()
    consumer.fetcher.in_flight.started(message.delivery_tag, 1.0)
    message.ack()
    consumer.fetcher.turn(claim=False)
    assert client.get("stat:processed") == b"1"


def test_an_old_connection_that_closes_late_does_not_detach_the_new_one(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    """From then on nobody woke the consumer: a freed slot was noticed a second later."""
    consumer = make_consumer(own_server.url, "default")
    old = consumer.connection
    consumer.connect()
    old.close()
    assert consumer.fetcher.has_consumer


# -- broadcasts and replies


def test_garbage_on_the_control_channel_does_not_end_the_consumer(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    """A JSON value that is no message raised out of the loop: anybody who can publish could stop a worker.

    Later the same held for one that nests deeper than Python reads: one PUBLISH ended every worker.
    """
    consumer = make_consumer(own_server.url, "default")
    mailbox = consumer.app.control.mailbox.Node("w@x", channel=consumer.channel)
    mailbox.listen(callback=lambda body, message: None)
    topic = "/0.celery.pidbox"
    assert client.execute_command("PUBLISH", topic, "[]") == 1
    for text in (
        "{}",
        "no json",
        "1",
        "null",
        '{"body":1,"properties":{}}',
        json.dumps({"properties": None}),
        "[" * 100_000,
    ):
        client.execute_command("PUBLISH", topic, text)
    while not drained(consumer) and b"cmd=blmove" not in client.execute_command("CLIENT", "LIST"):
        pass
    push(client, "default", job())
    wait_for(lambda: drained(consumer), "the job behind the garbage")


MALFORMED = [
    [1, 2],
    "text",
    7,
    None,
    {"method": "echo", "destination": 5},
    {"method": "echo", "arguments": [1]},
    {"method": "echo", "arguments": {"no": "such argument"}},
    {"method": "echo", "pattern": "[", "matcher": "pcre"},
    {"method": "echo", "reply_to": 5},
    {"method": "echo", "reply_to": {"exchange": [], "routing_key": {}}},
    {"method": ["echo"], "ticket": {}},
    {"method": "unwritable", "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "x"}},
    {"surplus": 1},
    {},
]


@pytest.mark.parametrize("body", MALFORMED)
def test_a_malformed_command_leaves_the_worker_listening(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker, body: Any
) -> None:
    """Celery resets its mailbox after one. It subscribed to nothing then, and was deaf until a restart."""
    consumer = make_consumer(own_server.url, "default")
    heard: list[Any] = []
    pidbox = pidbox_of(consumer)
    pidbox.node.handlers = {
        "echo": lambda state: heard.append(1) or "ok",
        "unwritable": lambda state: {1, object()},
    }
    pidbox.start(pidbox.c)
    broadcast(client, body)
    consumer.drain(2)  # it is delivered
    heard.clear()

    broadcast(client, {"method": "echo"})

    wait_for(lambda: drained(consumer) or heard, "the command behind the malformed one", 5)
    push(client, "default", job())
    wait_for(lambda: drained(consumer), "a job, and no other queue is read")
    assert tuple(consumer.fetcher.order.names) == ("default",)


def pidbox_of(consumer: Consumer) -> Any:
    """Celery's own, as a worker has it."""
    controller = SimpleNamespace(use_eventloop=False)
    parts = {"app": consumer.app, "connection": consumer.connection, "controller": controller}
    return Pidbox(SimpleNamespace(hostname="w@x", on_decode_error=lambda message, error: None, **parts))


def broadcast(client: redis.Redis, body: Any) -> None:
    encoded = base64.b64encode(json.dumps(body).encode()).decode()
    message = {
        "body": encoded,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"clock": 1},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
            "delivery_tag": "1",
        },
    }
    client.execute_command("PUBLISH", "/0.celery.pidbox", json.dumps(message))


def drained(consumer: Consumer) -> bool:
    try:
        consumer.drain(0.2)
    except TimeoutError:
        return bool(consumer.messages)
    return bool(consumer.messages)


def test_broadcasts_are_heard_again_after_their_connection_was_killed(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    """The subscription's link was mended by the next reading, and nobody read: it stayed deaf."""
    consumer = make_consumer(own_server.url, "default")
    heard: list[Any] = []
    node = consumer.app.control.mailbox.Node("w@x", channel=consumer.channel)
    node.listen(callback=lambda body, message: heard.append(body))
    consumer.idle(0.2)
    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    def asked() -> bool:
        consumer.app.control.broadcast("ping", reply=False)
        drained(consumer)
        return bool(heard)

    wait_for(asked, "a broadcast after the cut", 8)


def test_a_cut_wait_for_replies_wakes_the_loop_no_more_once_its_connection_is_closed(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    """The client forgets the socket of a cut link, so the loop was told to watch "none" no more."""
    # Given a process that waits for replies
    consumer = make_consumer(own_server.url, "default")
    transport = consumer.connection.transport
    event_loop = transport.event_loop
    transport.await_replies("0123.reply.celery.pidbox")
    wait_for(lambda: b"cmd=blpop" in client.execute_command("CLIENT", "LIST"), "the wait")
    # When its link is cut, and it closes its connection
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(errors.StoreUnavailable):
        wait_for(lambda: event_loop.wait(1.0), "the cut link")
    consumer.connection.close()
    # Then nothing ends the waits of its loop
    event_loop.wait(0.0)
    assert event_loop._selector.select(0) == []
    consumer.connect()


def test_a_reply_reaches_the_process_that_asked(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "default")
    node = consumer.app.control.mailbox.Node("w@x", channel=consumer.channel)
    node.handlers["hello"] = lambda state, **_: {"ok": "there"}
    node.listen(callback=node.handle_message)
    replies: list[Any] = []

    def ask() -> None:
        replies.extend(consumer.app.control.broadcast("hello", reply=True, timeout=2, limit=1))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(lambda: not drained(consumer) and replies, "the reply")
    asking.join()
    assert replies == [{"w@x": {"ok": "there"}}]
    assert all(0 < client.ttl(key) <= 60 for key in client.scan_iter("bridge:reply:*"))


# -- publishing


def test_what_is_pushed_looks_like_sidekiqs_own(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    app = make_consumer(own_server.url, "default").app
    app.send_task("HardJob", args=[1, "ü", None], queue="low")
    (payload,) = next_first(client, "low")
    fields = json.loads(payload)
    assert (fields["class"], fields["args"], fields["queue"], fields["retry"]) == (
        "HardJob",
        [1, "ü", None],
        "low",
        True,
    )
    assert len(fields["jid"]) == 24
    assert client.smembers("queues") == {b"low"}
    app.send_task("HardJob", args=[], countdown=60)
    ((later, at),) = client.zrange("schedule", 0, -1, withscores=True)
    assert "enqueued_at" not in json.loads(later)
    assert 50 < at - time.time() <= 61
    assert sorted(client.keys()) == [b"queue:low", b"queues", b"schedule"]


def test_publishing_into_an_outage_says_so(own_server: RedisServer, make_consumer: Maker) -> None:
    consumer = make_consumer(own_server.url, "default")
    producer = consumer.app.amqp.Producer(consumer.channel)
    consumer.app.send_task("HardJob", producer=producer)
    own_server.stop()
    with pytest.raises(OperationalError, match="refused"):
        consumer.app.send_task("HardJob", producer=producer, retry=False)


def test_a_queue_is_not_purged_unless_it_was_allowed(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "default")
    push(client, "default", job())
    with pytest.raises(errors.PushRefused, match="BRIDGE_ALLOW_PURGE"):
        consumer.channel.queue_purge("default")
    assert client.llen("queue:default") == 1


def test_a_decision_beats_the_ack(own_server: RedisServer, client: redis.Redis, make_consumer: Maker) -> None:
    consumer = make_consumer(own_server.url, "default")
    push(client, "default", job())
    consumer.drain()
    (message,) = consumer.messages
    consumer.fetcher.in_flight.started(message.delivery_tag, 1.0)
    consumer.fetcher.in_flight.decide(message.delivery_tag, Done())
    message.reject()
    consumer.fetcher.turn(claim=False)
    assert client.get("stat:processed") == b"1"
    assert client.zcard("dead") == 0


# -- watches that take


def await_watches(consumer: Consumer, client: redis.Redis, count: int) -> None:
    """The consumer has looked, and waits."""

    def has_them() -> bool:
        consumer.idle(0.05)
        return int(client.info("clients")["blocked_clients"]) >= count

    wait_for(has_them, "the watches")


def test_a_push_to_an_idle_consumer_costs_at_most_eight_commands(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    """It cost 20: the wake-up, a claim and a settlement, with the commands inside their scripts."""
    consumer = make_consumer(own_server.url, "default")
    await_watches(consumer, client, 1)
    for _ in range(2):  # the first settlement teaches Redis the script, and begins the day
        client.config_resetstat()
        push(client, "default", job())
        consumer.drain()
        consumer.settle_all()
        consumer.fetcher.turn(claim=False)

    stats = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
    assert sum(calls.values()) - calls.get("config|resetstat", 0) <= 8, calls
    assert client.get("stat:processed") == b"2"


def test_a_worker_with_one_slot_and_many_queues_takes_one_job_at_a_time(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "a", "b", "c", slots=1)
    await_watches(consumer, client, 3)
    for queue in "cab":
        push(client, queue, job())

    def waiting() -> int:
        return sum(client.llen(f"queue:{queue}") for queue in "abc")

    for left in (2, 1, 0):
        consumer.drain()
        assert len(consumer.messages) == 1
        assert waiting() == left
        consumer.settle_all()
        consumer.fetcher.turn(claim=False)
    assert client.get("stat:processed") == b"3"


def test_watches_that_come_and_go_use_up_no_connections_of_the_pool(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    """The pool counted each one for good, and the hundredth ended the worker."""
    consumer = make_consumer(own_server.url, "a", "b", slots=1)
    await_watches(consumer, client, 2)
    created = consumer.connection.transport.redis.connection_pool._created_connections
    for _ in range(5):
        consumer.connection.transport._poller._watches.drop()
        consumer.connection.transport._poller._next.woken()
        await_watches(consumer, client, 2)
    assert consumer.connection.transport.redis.connection_pool._created_connections == created


def test_a_burst_is_claimed_in_batches(
    own_server: RedisServer, client: redis.Redis, make_consumer: Maker
) -> None:
    consumer = make_consumer(own_server.url, "default", slots=50)
    await_watches(consumer, client, 1)
    client.config_resetstat()
    with client.pipeline() as pipeline:
        for _ in range(50):
            pipeline.lpush("queue:default", job())
        pipeline.execute()
    while len(consumer.messages) < 50:
        consumer.drain()
    assert client.info("commandstats")["cmdstat_blmove"]["calls"] <= 4
