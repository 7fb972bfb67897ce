"""The end of a consumer while jobs of its worker end."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.broker.poller import Poller
from bridge.event_loop import EventLoop
from bridge.sidekiq.fetch.take import Take
from bridge.sidekiq.outcome.decision import Done
from tests.integration.worker import Worker, job, push, ready
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for


def test_a_job_that_ends_while_the_watches_of_a_stopping_worker_end_leaves_no_key(
    own_server: RedisServer, make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a job settled itself at once, and had every list fenced whose watch was still under way."""
    # Given a stopping worker with a job and two watches
    worker = ready(make_worker(own_server.port, queues=["one", "two"], slots=4))
    fetcher, event_loop = worker.fetcher, EventLoop()
    context: Any = SimpleNamespace(poll_seconds=1.0, has_limits=False, fast_dispatch=lambda *_: True)
    poller = Poller(context, fetcher, event_loop, worker.client, None, lambda unit: None)
    poller.attend()
    push(worker.client, "one", job())
    wait_for(lambda: not poller.turn() and len(fetcher.arrivals.watched) == 2, "two watches that take")
    (token,) = fetcher.in_flight.held
    fetcher.quiet()
    # When its consumer ends, and the job ends before the first watch has
    end = Take.end

    def end_late(take: Take) -> bool:
        fetcher.settle(token, Done())
        return end(take)

    monkeypatch.setattr(Take, "end", end_late)
    poller.detach()
    # Then the job is settled, and nothing is left
    assert [type(decision) for _, decision, _ in worker.outcomes] == [Done]
    assert list(worker.client.scan_iter("bridge:arrived:*")) == []
    event_loop.close()
