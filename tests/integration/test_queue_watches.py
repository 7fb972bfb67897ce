"""The watches on several queues: some take, and some only look."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from bridge.broker.queue_watches import Watches
from bridge.event_loop import EventLoop
from tests.integration.worker import Worker, job, push, ready
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

Maker = Callable[..., Worker]


class Consumer:
    """The part of a consumer that waits. It hears what the watches tell."""

    poll_seconds = 1.0

    def __init__(self, worker: Worker) -> None:
        self.worker = ready(worker)
        self.event_loop = EventLoop()
        self.looked: list[str] = []
        arrivals, order = worker.fetcher.arrivals, worker.fetcher.order
        self.watches = Watches(worker.client, self.event_loop, arrivals, order, self)

    def job_came(self, queue: str, payload: bytes) -> None:
        self.looked.append(queue)

    def woken(self) -> None: ...

    def woken_without_job(self) -> None: ...

    def watch(self) -> None:
        self.watches.watch(self.worker.fetcher.order.names)

    def commands(self) -> list[str]:
        """The watches that Redis has, by their command's last words of interest: ``a takes``, ``b looks``."""
        return sorted(
            [f"{name} takes" for name, take in self.watches._takes.items() if take.armed]
            + [f"{name} looks" for name, peek in self.watches._peeks.items() if peek.armed]
        )

    def has(self, *expected: str) -> None:
        """Wait, as the consumer does, until these are the watches."""

        def is_so() -> bool:
            self.event_loop.wait(0.01)
            return self.commands() == sorted(expected)

        wait_for(is_so, f"{expected} instead of {self.commands()}")

    def arrived(self, count: int) -> list[str]:
        """Queues of the jobs that watches take until there are so many; the worker holds them."""
        found: list[str] = []

        def is_so() -> bool:
            self.event_loop.wait(0.01)
            found.extend(unit.delivery.queue for unit in self.watches.read())
            return len(found) >= count

        wait_for(is_so, f"{count} jobs")
        return found

    def close(self) -> None:
        self.watches.drop()
        self.event_loop.close()


@pytest.fixture
def make(own_server: RedisServer, make_worker: Maker) -> Iterator[Callable[..., Consumer]]:
    made: list[Consumer] = []

    def consumer(**options: object) -> Consumer:
        made.append(Consumer(make_worker(own_server.port, **options)))
        return made[-1]

    yield consumer
    for each in made:
        each.close()


def connections(client: redis.Redis) -> int:
    return sum(each["cmd"] == "blmove" for each in client.client_list())


def test_a_queue_with_a_watch_that_takes_has_no_peek(make: Callable[..., Consumer]) -> None:
    # An idle worker once had a connection for each, since it looked before it had its lease.
    consumer = make(queues=["default"], slots=20)
    consumer.worker.gate.restricts = True
    consumer.watch()
    consumer.has("default looks")
    consumer.worker.gate.restricts = False
    consumer.watch()
    consumer.has("default takes")
    wait_for(lambda: connections(consumer.worker.client) == 1, "one connection")
    assert consumer.watches._peeks == {}


def test_in_strict_order_a_lower_queue_takes_no_slot_that_a_higher_one_needs(
    make: Callable[..., Consumer],
) -> None:
    # Given two slots, a watch on each queue, and a job of the high queue in one slot
    consumer = make(queues=["high", "low"], slots=2)
    client = consumer.worker.client
    consumer.watch()
    consumer.has("high takes", "low takes")
    push(client, "high", job())
    assert consumer.arrived(1) == ["high"]
    # When the watches begin again
    consumer.watches.take_again()
    # Then the last slot is for the high queue, and the low one is looked at
    consumer.has("high takes", "low looks")
    push(client, "low", job())
    push(client, "high", job())
    assert consumer.arrived(1) == ["high"]
    assert client.llen("queue:low") == 1
    wait_for(lambda: consumer.event_loop.wait(0.01) or consumer.looked == ["low"], "word of the job")


def test_in_strict_order_a_cut_redis_is_no_error_of_a_watch_that_needs_the_slot_of_a_lower_one(
    make: Callable[..., Consumer], own_server: RedisServer
) -> None:
    """The error came out of the consumer's loop. Out of a turn of a thread, it was the last such turn."""
    # Given a watch on the low queue that has the last slot
    consumer = make(queues=["high", "low"], slots=2)
    client = consumer.worker.client
    consumer.watch()
    consumer.has("high takes", "low takes")
    push(client, "high", job())
    assert consumer.arrived(1) == ["high"]
    # When Redis is gone, and the high queue's watch needs the slot
    own_server.stop()
    # Then it does not begin, and a claim finds out
    assert not consumer.watches.take("high")
    own_server.start()


def test_in_strict_order_one_slot_is_for_the_first_queue(make: Callable[..., Consumer]) -> None:
    consumer = make(queues=["high", "middle", "low"], slots=1)
    consumer.watch()
    consumer.has("high takes", "low looks", "middle looks")


def test_in_strict_order_a_queue_that_is_only_looked_at_keeps_its_slot(make: Callable[..., Consumer]) -> None:
    # Given a high queue whose jobs no watch may take, as with a limit of its own
    consumer = make(queues=["high", "low"], slots=2)
    may_take = consumer.worker.fetcher.arrivals.may_take
    consumer.worker.fetcher.arrivals.may_take = (  # type: ignore[method-assign]
        lambda queue: queue != "high" and may_take(queue)
    )
    consumer.watch()
    consumer.has("high looks", "low takes")
    # When the low queue fills a slot, its watch does not begin again: the last one is for the high queue
    push(consumer.worker.client, "low", job())
    assert consumer.arrived(1) == ["low"]
    assert not consumer.watches.take_again()


def test_with_weights_each_queue_may_have_the_last_slot(make: Callable[..., Consumer]) -> None:
    consumer = make(queues=["one", "two"], slots=2, weights={"one": 3, "two": 1})
    consumer.watch()
    consumer.has("one takes", "two takes")
    push(consumer.worker.client, "one", job())
    assert consumer.arrived(1) == ["one"]
    assert not consumer.watches.take_again()
    consumer.has("two takes")


def test_a_queue_whose_watch_let_go_takes_again_with_the_next_free_slot(
    make: Callable[..., Consumer],
) -> None:
    consumer = make(queues=["high", "low"], slots=2)
    consumer.watch()
    consumer.has("high takes", "low takes")
    push(consumer.worker.client, "high", job())
    consumer.arrived(1)
    consumer.watches.take_again()
    consumer.has("high takes", "low looks")
    (unit,) = consumer.worker.fetcher.in_flight.held.values()
    consumer.worker.settle(unit)
    consumer.watch()
    consumer.has("high takes", "low takes")


def test_a_watch_that_another_ones_end_has_begun_again_is_not_begun_twice(
    make: Callable[..., Consumer],
) -> None:
    """Two commands were under way. The second took a job without a slot, and its answer cut the watch."""
    # Given a watch that has taken a job
    consumer = make(queues=["high", "low"])
    client = consumer.worker.client
    consumer.watch()
    consumer.has("high takes", "low takes")
    push(client, "high", job())
    assert consumer.arrived(1) == ["high"]
    # When the lower watch ends, which begins it again, before its consumer would
    consumer.watches._takes["low"].unblock()
    consumer.has("high takes", "low takes")
    assert consumer.watches.take_again()
    # Then it takes one of two jobs
    client.lpush("queue:high", job(), job())
    assert consumer.arrived(1) == ["high"]
    assert client.llen("queue:high") == 1


def fences(client: redis.Redis) -> list[bytes]:
    """Keys that refuse the watch of a list, for two hours."""
    return list(client.scan_iter("bridge:arrived:*", _type="string"))


def test_a_worker_that_becomes_quiet_within_a_look_at_its_watches_leaves_no_key(
    make: Callable[..., Consumer],
) -> None:
    """The signal came in the middle of a turn: the watches were cut, and a deploy left their fences."""
    consumer = make(queues=["one", "two"])
    worker = consumer.worker
    consumer.watch()
    consumer.has("one takes", "two takes")
    worker.fetcher.quiet()
    assert not consumer.watches.are_on(worker.fetcher.order.names)
    consumer.watches.drop(end=True)
    assert worker.fetcher.flush(last=True)
    assert list(worker.client.scan_iter("bridge:arrived:*")) == []


def test_a_queue_that_the_worker_leaves_has_no_fence(make: Callable[..., Consumer]) -> None:
    consumer = make(queues=["one", "two"])
    consumer.watch()
    consumer.has("one takes", "two takes")
    consumer.watches.watch(["two"])
    consumer.has("two takes")
    assert consumer.worker.fetcher.flush()
    assert fences(consumer.worker.client) == []


def test_a_watch_whose_connection_is_cut_leaves_a_fence(make: Callable[..., Consumer]) -> None:
    consumer = make(queues=["one"])
    consumer.watch()
    consumer.has("one takes")
    consumer.worker.client.client_kill_filter(_type="normal", skipme=True)
    consumer.has()
    assert consumer.worker.fetcher.flush()
    assert len(fences(consumer.worker.client)) == 1
