"""A worker of many queues: Redis tells which one has changed, and a claim asks that one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from bridge.event_loop import EventLoop
from bridge.sidekiq.outcome.decision import Done
from tests.integration.worker import Worker, attending_poller, job, push, ready
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

QUEUES = tuple(f"queue_{number}" for number in range(300))
FAR = QUEUES[250]
#: Longer than a test: what is found was told.
POLL_SECONDS = 60.0


class Consumer:
    """A consumer of 300 queues."""

    def __init__(self, worker: Worker) -> None:
        self.worker = ready(worker)
        self.event_loop = EventLoop()
        self.delivered: list[Any] = []
        self.poller = attending_poller(worker, self.event_loop, POLL_SECONDS, self.delivered.append)

    @property
    def asked(self) -> int:
        """How many queues the next claim asks."""
        return len(self.worker.order.asked.names)

    def watch(self) -> None:
        """Turn until nothing is left to do, and all queues are watched."""
        wait_for(lambda: not self.poller.turn(), "a turn without a job")
        self.poller._next.poll_at = 0.0
        wait_for(lambda: not self.poller.turn() and self.asked < len(QUEUES), "the watch on all queues")

    def take(self, count: int) -> list[Any]:
        """Wait for this number of jobs, and settle them."""

        def turn() -> bool:
            self.event_loop.wait(0.01)
            self.poller.turn()
            return len(self.delivered) >= count

        wait_for(turn, "the jobs")
        units, self.delivered[:] = self.delivered[:], []
        for unit in units:
            self.worker.fetcher.settle(unit.delivery.token, Done())
        while self.poller.turn():
            pass
        return units

    def close(self) -> None:
        self.poller.detach()
        self.event_loop.close()


@pytest.fixture
def consumer(own_server: RedisServer, make_worker: Callable[..., Worker]) -> Iterator[Consumer]:
    made = Consumer(make_worker(own_server.port, slots=10, queues=QUEUES))
    made.watch()
    yield made
    made.close()


def received(client: redis.Redis) -> int:
    """Bytes that Redis has got so far."""
    stats: Any = client.info("stats")
    return int(stats["total_net_input_bytes"])


def test_a_push_costs_a_worker_of_300_queues_a_claim_of_few(consumer: Consumer, client: redis.Redis) -> None:
    """A claim asked all queues, and then the worker asked again about all beyond the first four."""
    # Given a worker that watches 300 queues, and whose connections know the scripts
    push(client, FAR, job())
    consumer.take(1)
    before = received(client)
    # When a job comes to one of the last queues
    push(client, FAR, job())
    consumer.take(1)
    # Then all that was asked has less bytes than the names of all queues
    assert received(client) - before < len(QUEUES) * len("queue:queue_100")


def test_the_quickest_worker_watches_on_at_once(consumer: Consumer, client: redis.Redis) -> None:
    """It watched on a second later, and a job that came meanwhile waited so long."""
    for _ in range(5):
        push(client, FAR, job())
        assert len(consumer.take(1)) == 1


@pytest.mark.parametrize("slots", [1, 2])
def test_a_worker_whose_claims_fill_its_slots_watches_on_at_once(
    slots: int, own_server: RedisServer, make_worker: Callable[..., Worker], client: redis.Redis
) -> None:
    """The claim that then finds its queues empty brings no job. The next job lay there for up to a second."""
    # Given a worker that watches 300 queues, and takes as many jobs as it has slots
    consumer = Consumer(make_worker(own_server.port, slots=slots, queues=QUEUES))
    consumer.watch()
    push(client, FAR, *(job() for _ in range(slots)))
    assert len(consumer.take(slots)) == slots
    # When one more comes to the same queue, then the worker is told
    push(client, FAR, job())
    assert len(consumer.take(1)) == 1
    consumer.close()


def test_a_change_that_was_told_before_the_last_look_does_not_hide_the_next_job(
    consumer: Consumer, client: redis.Redis
) -> None:
    """The worker took its own claim for a change after the look, and heeded no news of that queue."""
    # Given a job that waits while the watch on its queue begins again
    beyond = consumer.poller._watches.beyond
    push(client, FAR, job())
    wait_for(lambda: consumer.event_loop.wait(0.01) or FAR in beyond._stirred, "the news of the job")
    assert beyond.find()
    # When it is claimed, and the queue watched once more
    assert len(consumer.take(1)) == 1
    # Then the queue is known to be empty, and the next job is told
    assert not beyond._stirred
    push(client, FAR, job())
    assert len(consumer.take(1)) == 1


def test_the_other_queues_stay_watched(consumer: Consumer, client: redis.Redis) -> None:
    for name in (FAR, QUEUES[4], QUEUES[299], FAR):
        push(client, name, job())
        (unit,) = consumer.take(1)
        assert unit.delivery.queue == name


def test_a_claim_of_few_queues_keeps_their_order(consumer: Consumer, client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        for name in (QUEUES[299], FAR, QUEUES[10]):
            pipeline.lpush(f"queue:{name}", job())
        pipeline.execute()
    assert [unit.delivery.queue for unit in consumer.take(3)] == [QUEUES[10], FAR, QUEUES[299]]


def test_a_job_that_a_claim_has_left_is_found(consumer: Consumer, client: redis.Redis) -> None:
    push(client, FAR, *(job() for _ in range(15)))
    assert len(consumer.take(10)) == 10
    consumer.take(5)
    assert client.llen(f"queue:{FAR}") == 0


def test_a_queue_that_is_given_up_may_still_be_told(consumer: Consumer, client: redis.Redis) -> None:
    consumer.worker.order.remove(FAR)
    push(client, FAR, job())
    push(client, QUEUES[100], job())
    consumer.take(1)
    consumer.watch()
    client.delete(f"queue:{FAR}")
    push(client, QUEUES[101], job())
    (unit,) = consumer.take(1)
    assert unit.delivery.queue == QUEUES[101]


def test_a_cut_watch_asks_all_queues(consumer: Consumer, client: redis.Redis) -> None:
    for other in client.client_list():
        if "t" in other["flags"]:
            client.client_kill(other["addr"])
    push(client, FAR, job())
    assert len(consumer.take(1)) == 1


def test_after_flushall_every_queue_may_have_jobs(consumer: Consumer, client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        pipeline.flushall()
        pipeline.lpush(f"queue:{FAR}", job())
        pipeline.execute()
    consumer.worker.lease.register()
    assert len(consumer.take(1)) == 1


def test_a_watch_that_is_long_ago_proves_no_queue_empty(consumer: Consumer) -> None:
    consumer.worker.order._asked_until = 0.0
    assert consumer.asked == len(QUEUES)


def test_a_watch_that_begins_while_jobs_wait_names_their_queues(
    consumer: Consumer, client: redis.Redis
) -> None:
    """It took all queues for such that may have jobs, and each claim asked all of them."""
    # Given jobs that came while the watch had ended
    consumer.poller._watches.beyond.drop()
    for name in (FAR, QUEUES[7]):
        push(client, name, job())
    # When it begins again
    assert consumer.poller._watches.beyond.find()
    # Then the next claim asks these two and the first four
    assert consumer.worker.order.asked.names == (*QUEUES[:4], QUEUES[7], FAR)
    consumer.poller._next.poll_at = 0.0
    assert len(consumer.take(2)) == 2


def test_a_watch_that_finds_jobs_in_many_queues_asks_all(consumer: Consumer, client: redis.Redis) -> None:
    consumer.poller._watches.beyond.drop()
    for name in QUEUES[50:100]:
        push(client, name, job())
    assert consumer.poller._watches.beyond.find()
    assert consumer.asked == len(QUEUES)
