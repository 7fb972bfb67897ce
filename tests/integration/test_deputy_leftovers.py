"""Jobs that a deputy has read and may not begin, when their consumer ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from bridge.broker.poller import Poller
from bridge.event_loop import EventLoop
from tests.integration.worker import Worker, job, next_first, push, ready
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for


def test_a_job_that_a_deputy_has_left_goes_back_with_the_end_of_its_consumer(
    own_server: RedisServer, make_worker: Callable[..., Worker]
) -> None:
    """The consumer ended before its next turn. Its successor does not know the job.

    The worker held the job without running it, in a slot that was lost until the end of the process.
    """
    # Given a consumer that waits, and a deputy that may begin nothing
    worker = ready(make_worker(own_server.port, slots=1))
    event_loop = EventLoop()
    shared = event_loop.share()
    assert shared is not None
    context: Any = SimpleNamespace(poll_seconds=1.0, has_limits=False, fast_dispatch=lambda *_: False)
    delivered: list[Any] = []
    poller = Poller(context, worker.fetcher, event_loop, worker.client, None, delivered.append)
    poller.attend()
    watched = worker.fetcher.arrivals.watched
    wait_for(lambda: not poller.turn() and any(take.armed for take in watched.values()), "a watch that takes")
    # When the deputy reads a job, and the consumer ends before its next turn
    payload = job(jid="left")
    push(worker.client, "default", payload)
    wait_for(lambda: shared.epoll.poll(0), "the job")
    shared.read()
    assert shared.after_read()
    assert [unit.job.jid for unit in worker.fetcher.in_flight.held.values()] == ["left"]
    poller.detach()
    # Then the job is in its queue again, and its slot is free
    assert next_first(worker.client) == [payload]
    assert not worker.fetcher.in_flight.held
    assert not delivered
    event_loop.close()
