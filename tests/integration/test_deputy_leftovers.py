"""What threads of the pool leave to the consumer: jobs that they may not begin, and those that end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bridge.broker.wakes import MOMENT_SECONDS
from bridge.event_loop import DISTRUST
from bridge.sidekiq.fetch import take
from bridge.sidekiq.outcome.decision import Done
from tests.integration.test_life_of_a_job import Accepted, Lossy
from tests.integration.worker import Worker, attending_poller, job, next_first, push, ready
from tests.support.event_loops import sharing
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
    event_loop, shared = sharing()
    may_take = worker.fetcher.arrivals.may_take
    worker.fetcher.arrivals.may_take = lambda queue: takes and may_take(queue)  # type: ignore[method-assign]
    poller = attending_poller(worker, event_loop, 60.0, lambda unit: None)
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


def test_an_expired_job_that_a_thread_claims_with_others_is_settled_while_they_run(
    own_server: RedisServer, make_worker: Callable[..., Worker]
) -> None:
    """The thread begins the others, and only their end settled it, or the owner's next look after 0.25 s."""
    # Given a consumer that waits, and a thread of its pool that has ended a run
    worker = ready(make_worker(own_server.port, slots=3))
    event_loop, shared = sharing()
    poller = attending_poller(worker, event_loop, 60.0, lambda _: None, dispatches=True)
    worker.lease.ensure()
    # When it claims an expired job, and another one, which it begins
    push(worker.client, "default", job(expiry=1.0), job(jid="good"))
    is_needed = shared.after_run()
    assert [unit.job.jid for unit in worker.fetcher.in_flight.held.values()] == ["good"]
    # Then the expired one is settled in that turn, or the consumer's thread is called for it
    assert is_needed or not worker.fetcher.journal.waiting
    poller.turn()
    assert [decision for _, decision, _ in worker.outcomes] == [Done(expired=True)]
    # And the decision of a run wakes no thread: its own end settles it
    (unit,) = worker.fetcher.in_flight.held.values()
    poller._next.more_expected = False
    worker.fetcher.in_flight.started(unit.delivery.token, 1.0)
    worker.fetcher.settle(unit.delivery.token, Done())
    assert not poller._is_needed()
    poller.detach()
    event_loop.close()


def test_a_worker_holds_no_more_jobs_than_slots_after_the_claim_of_a_thread_without_an_answer(
    own_server: RedisServer, make_worker: Callable[..., Worker]
) -> None:
    """Its watches lived on until the consumer's turn, and took a job beside those of the claim."""
    # Given two queues with watches that take, and a thread whose run has emptied no queue
    worker = ready(make_worker(own_server.port, queues=("default", "other"), slots=3))
    event_loop, shared = sharing()
    store = worker.use(Lossy(worker.store, Accepted()))
    poller = attending_poller(worker, event_loop, 0.05, lambda _: None, dispatches=True)
    watched, held = worker.fetcher.arrivals.watched, worker.fetcher.in_flight.held
    wait_for(
        lambda: not poller.turn() and len([take for take in watched.values() if take.armed]) == 2,
        "watches that take",
    )
    pipeline = worker.client.pipeline()
    for _ in range(6):
        pipeline.lpush("queue:default", job())
    pipeline.execute()
    wait_for(lambda: shared.epoll.poll(0), "the first job")
    shared.read()
    poller._begin(poller._watches.read(), shared)
    (first,) = held
    worker.fetcher.settle(first, Done())
    poller._next.more_expected = True  # as after a watch that has met more jobs
    # When it claims for all slots, and the answer is lost
    store.lose = "answer"
    assert shared.after_run()
    # And a job comes to the other queue before the consumer's thread has its turn
    push(worker.client, "other", job(jid="beyond"))
    wait_for(lambda: not worker.client.info("clients")["blocked_clients"], "the end of the watch")
    event_loop.wait(0.0)
    # Then the jobs of the claim fill the slots, and no other is held beside them
    most = 0

    def adopted() -> bool:
        nonlocal most
        poller.turn()
        most = max(most, len(held))
        return not worker.fetcher.in_flight.unanswered.tokens and len(held) >= 3

    wait_for(adopted, "the jobs of the claim")
    assert most == 3
    poller.detach()
    assert "beyond" in {json.loads(each)["jid"] for each in next_first(worker.client, "other")}
    event_loop.close()


def test_a_job_that_a_deputy_has_left_goes_back_with_the_end_of_its_consumer(
    own_server: RedisServer, make_worker: Callable[..., Worker]
) -> None:
    """The consumer ended before its next turn. Its successor does not know the job.

    The worker held the job without running it, in a slot that was lost until the end of the process.
    """
    # Given a consumer that waits, and a deputy that may begin nothing
    worker = ready(make_worker(own_server.port, slots=1))
    event_loop, shared = sharing()
    delivered: list[Any] = []
    poller = attending_poller(worker, event_loop, 1.0, delivered.append)
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


def test_a_batch_that_was_cut_is_whole_again_after_a_moment(
    own_server: RedisServer, make_worker: Callable[..., Worker]
) -> None:
    """One job of a batch was settled alone, and one claimed. The others followed, and then again that one.

    So it went on for as long as jobs waited, at twice the round trips.
    """
    # Given a backlog, and a consumer that has delivered four native jobs, of which one ends at once
    worker = ready(make_worker(own_server.port, slots=4))
    event_loop, shared = sharing()
    shared.turners.add(0)  # a thread of the pool
    poller = attending_poller(worker, event_loop, 1.0, lambda _: None, dispatches=True)
    push(worker.client, "default", *(job() for _ in range(20)))
    held = worker.fetcher.in_flight.held

    def end(count: int) -> None:
        for token in list(held)[:count]:
            worker.fetcher.settle(token, Done())

    def scripts() -> int:
        calls: int = worker.client.info("commandstats")["cmdstat_evalsha"]["calls"]
        return calls

    assert poller.turn() == 4
    end(1)
    # When the consumer looks, then it waits a moment for the others, without a round trip
    before = scripts()
    assert poller.turn() == 0
    assert poller.wait_seconds == MOMENT_SECONDS
    assert scripts() == before
    # When they end meanwhile, then all four are settled together, and four claimed
    end(3)
    assert poller.turn() == 4
    assert (processed(worker), len(held)) == (4, 4)
    # When they do not, then the one that has ended is settled after that moment, and one claimed
    end(1)
    assert [poller.turn(), poller.turn()] == [0, 1]
    assert (processed(worker), len(held)) == (5, 4)
    # When none runs beside those that have ended, then they are settled at once
    end(4)
    assert poller.turn() == 4
    assert processed(worker) == 9
    poller.detach()
    event_loop.close()


def test_a_job_that_ends_before_others_of_another_kind_is_settled_at_once(
    own_server: RedisServer, make_worker: Callable[..., Worker]
) -> None:
    """A native job ends with those beside it. A Ruby job may run for hours beside one that has ended."""
    # Given a consumer whose last jobs were such that no thread of the pool may wait for the next
    worker = ready(make_worker(own_server.port, slots=4))
    event_loop, shared = sharing()
    shared.turners.add(0)  # a thread of the pool
    poller = attending_poller(worker, event_loop, 1.0, lambda _: None, dispatches=True)
    push(worker.client, "default", *(job() for _ in range(20)))
    held = worker.fetcher.in_flight.held
    assert poller.turn() == 4
    shared.trust = DISTRUST
    # When one of them ends, then the next look settles it, and claims the next
    worker.fetcher.settle(next(iter(held)), Done())
    assert poller.turn() == 1
    assert processed(worker) == 1
    poller.detach()
    event_loop.close()


def processed(worker: Worker) -> int:
    return int(worker.client.get("stat:processed") or 0)
