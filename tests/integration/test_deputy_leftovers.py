"""Jobs that a deputy has read and may not begin, when their consumer ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.broker.poller import Poller
from bridge.event_loop import EventLoop
from bridge.sidekiq.fetch import take
from bridge.sidekiq.outcome.decision import Done
from tests.integration.worker import Worker, job, next_first, push, ready
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for


@pytest.mark.parametrize("takes", [True, False], ids=["arrived", "claimed"])
def test_an_expired_job_that_a_thread_of_the_pool_meets_is_settled_at_once(
    takes: bool,
    own_server: RedisServer,
    make_worker: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No run follows such a job. Its settlement waited for the next look of the consumer's thread, 0.2 s."""
    # Given a consumer that waits for its queue, by a watch that takes or by a peek
    monkeypatch.setattr(take, "BACKLOG_SECONDS", 0.0)  # the watch has waited for a while
    worker = ready(make_worker(own_server.port, slots=2))
    event_loop = EventLoop()
    shared = event_loop.share()
    assert shared is not None
    may_take = worker.fetcher.arrivals.may_take
    worker.fetcher.arrivals.may_take = lambda queue: takes and may_take(queue)  # type: ignore[method-assign]
    context: Any = SimpleNamespace(poll_seconds=60.0, has_limits=False, fast_dispatch=lambda *_: False)
    poller = Poller(context, worker.fetcher, event_loop, worker.client, None, lambda unit: None)
    poller.attend()
    wait_for(lambda: not poller.turn() and poller._watches.are_on(("default",)), "a watch")
    # When a deputy reads an expired job
    push(worker.client, "default", job(expiry=1.0))
    wait_for(lambda: shared.epoll.poll(0), "the job")
    shared.read()
    is_needed = shared.after_read()
    # Then it is settled in that turn, or the consumer's thread is called for it
    assert is_needed or not worker.fetcher.journal.waiting
    poller.turn()
    assert not worker.fetcher.journal.waiting
    assert [decision for _, decision, _ in worker.outcomes] == [Done(expired=True)]
    poller.detach()
    event_loop.close()


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
