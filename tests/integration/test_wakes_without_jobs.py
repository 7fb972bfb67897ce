"""A worker whose watches wake it for jobs that another one takes: it rests, and not for too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.broker import wakes
from bridge.broker.wakes import MOST_WAKES
from bridge.event_loop import EventLoop
from bridge.sidekiq.outcome.decision import Done
from tests.integration.worker import Worker, attending_poller, job, push, ready
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

DEFAULT = ("default",)
POLL_SECONDS, REST_SECONDS = 60.0, 1.0


class Consumer:
    """A consumer whose watches may not take: its jobs have a limit."""

    def __init__(self, worker: Worker) -> None:
        ready(worker)
        worker.fetcher.rooms.marked.add(("HardJob",), DEFAULT)
        self.worker, self.event_loop = worker, EventLoop()
        self.delivered: list[Any] = []
        self.poller = attending_poller(worker, self.event_loop, POLL_SECONDS, self.delivered.append)

    @property
    def is_watching(self) -> bool:
        return self.poller._watches.are_on(DEFAULT)

    def wakes(self) -> None:
        """So many wake-ups in a moment that it rests if they bring no job."""
        for _ in range(MOST_WAKES):
            self.poller._next.woken()


@pytest.fixture
def consumer(
    own_server: RedisServer, make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Consumer]:
    monkeypatch.setattr(wakes, "WITHIN_SECONDS", 2 * REST_SECONDS)  # a busy machine takes a while for a turn
    made = Consumer(make_worker(own_server.port, slots=2))
    wait_for(lambda: not made.poller.turn() and made.is_watching, "a watch")
    yield made
    made.poller.detach()
    made.event_loop.close()


def test_a_worker_that_was_quicker_than_others_watches_on(consumer: Consumer) -> None:
    """It rested, too, if it got a job by the third of three quick wake-ups.

    All workers of a rate of 50/s rested at once, now and then. A job that could begin lay in its queue for up
    to a second.
    """
    push(consumer.worker.client, "default", job(jid="quick"))
    wait_for(lambda: consumer.event_loop.wait(0.01) or not consumer.is_watching, "the watch to see the job")
    consumer.wakes()
    assert consumer.poller.turn() == 1
    assert consumer.is_watching
    consumer.worker.fetcher.settle(consumer.delivered[0].delivery.token, Done())


def test_a_worker_that_rests_looks_again_at_the_end_of_its_rest(consumer: Consumer) -> None:
    """It looked a second later: no worker saw a job while the quickest one had no free slot."""
    consumer.poller._watches.drop()
    consumer.wakes()
    assert consumer.poller.turn() == 0
    assert not consumer.is_watching
    assert 0 < consumer.poller.wait_seconds <= REST_SECONDS
    consumer.event_loop.wait(consumer.poller.wait_seconds)
    wait_for(lambda: not consumer.poller.turn() and consumer.is_watching, "a watch")
