"""Queues beyond the first four: a worker that others outrun rests, and a pause leaves the others watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from bridge.broker.queues_beyond import MOST_VAIN, QueuesBeyond
from tests.integration.test_queues_beyond import FAR, QUEUES, Consumer
from tests.integration.worker import Worker, job, push
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for


@pytest.fixture
def consumer(own_server: RedisServer, make_worker: Callable[..., Worker]) -> Iterator[Consumer]:
    made = Consumer(make_worker(own_server.port, slots=10, queues=QUEUES))
    yield made
    made.close()


def beyond(consumer: Consumer) -> QueuesBeyond:
    return consumer.poller._watches.beyond


def outrun(consumer: Consumer, client: redis.Redis, name: str) -> None:
    """Redis tells of a job that another worker takes."""
    push(client, name, job())

    def is_told() -> bool:
        consumer.event_loop.wait(0.01)
        return name in beyond(consumer)._stirred

    wait_for(is_told, "the news of the job")
    client.delete(f"queue:{name}")
    wait_for(lambda: not consumer.poller.turn(), "a turn without a job")


def rest(consumer: Consumer, client: redis.Redis) -> None:
    consumer.watch()
    for name in QUEUES[10 : 10 + MOST_VAIN]:
        outrun(consumer, client, name)
    assert beyond(consumer)._is_resting


def commands(client: redis.Redis) -> int:
    return int(client.info("stats")["total_commands_processed"])


def test_a_worker_that_was_outrun_some_times_is_woken_by_no_further_push(
    consumer: Consumer, client: redis.Redis
) -> None:
    """Each push to another of many queues woke all workers: 227 commands for 16 workers, 50 queues."""
    # Given a worker that got no job of several pushes
    rest(consumer, client)
    # When further jobs come, and another worker takes them
    for name in QUEUES[50:60]:
        push(client, name, job())
        client.delete(f"queue:{name}")
    before = commands(client)
    assert not consumer.event_loop.wait(0.0)
    assert not consumer.poller.turn()
    # Then Redis has heard nothing of this worker (its own question counts)
    assert commands(client) == before + 1
    # And one question at its next poll finds that the jobs are gone: it rests on
    assert not beyond(consumer).find()
    assert commands(client) == before + 3
    push(client, FAR, job())
    assert not consumer.event_loop.wait(0.0)
    assert not consumer.poller.turn()


def test_a_resting_worker_finds_a_job_at_its_next_poll(consumer: Consumer, client: redis.Redis) -> None:
    rest(consumer, client)
    push(client, FAR, job())
    consumer.poller._next.poll_at = 0.0
    assert len(consumer.take(1)) == 1
    # Then no other was quicker: it is woken again
    push(client, QUEUES[200], job())
    assert len(consumer.take(1)) == 1


def test_a_resting_worker_is_woken_again_once_nothing_has_changed(
    consumer: Consumer, client: redis.Redis
) -> None:
    rest(consumer, client)
    assert not beyond(consumer).find()  # the queues of the last pushes
    assert not beyond(consumer).find()
    push(client, FAR, job())
    assert len(consumer.take(1)) == 1


def test_a_claim_of_a_resting_worker_asks_what_has_changed_since(
    consumer: Consumer, client: redis.Redis
) -> None:
    """Strict order: a job of the last of the first queues may not pass one of a queue that rests."""
    rest(consumer, client)
    push(client, FAR, job())
    push(client, QUEUES[250 - 1], job())
    consumer.poller._next.more_expected = True
    assert [unit.delivery.queue for unit in consumer.take(2)] == [QUEUES[249], FAR]


def test_a_cut_while_a_worker_rests_is_found(consumer: Consumer, client: redis.Redis) -> None:
    rest(consumer, client)
    for other in client.client_list():
        if "t" in other["flags"]:
            client.client_kill(other["addr"])
    push(client, FAR, job())
    consumer.poller._next.poll_at = 0.0
    assert len(consumer.take(1)) == 1


@pytest.mark.parametrize("paused", [QUEUES[0], FAR], ids=["first", "far"])
def test_a_pause_leaves_the_other_queues_watched(
    paused: str, consumer: Consumer, client: redis.Redis
) -> None:
    """While a queue was paused each poll was a claim, and none began the watch on many queues."""
    # Given a worker that starts while a queue with jobs is paused
    client.sadd("paused", paused)
    push(client, paused, job())
    wait_for(lambda: not consumer.poller.turn(), "a turn without a job")

    def poll() -> bool:
        consumer.poller._next.poll_at = beyond(consumer)._look_at = 0.0
        return not consumer.poller.turn() and consumer.asked <= 4 + 1

    wait_for(poll, "the watch on all queues")
    # When another worker is quicker once
    outrun(consumer, client, QUEUES[100])
    wait_for(poll, "the watch on this queue")
    assert QUEUES[100] not in beyond(consumer)._stirred
    # Then the next job there is told
    push(client, QUEUES[100], job())
    assert [unit.delivery.queue for unit in consumer.take(1)] == [QUEUES[100]]
    # And the paused one waits, until the pause ends
    assert client.llen(f"queue:{paused}") == 1
    client.delete("paused")
    consumer.poller._next.poll_at = 0.0
    assert len(consumer.take(1)) == 1
