"""Commands that arrive late: the network held them, their worker gave them up, and then it healed.

TCP delivers what a closed socket had sent, up to minutes later. After a partition of 35 s, 31 jobs were in
flight under forgotten tokens of living workers, until those ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge import errors
from bridge.sidekiq.outcome.decision import Done, GiveBack, Retry
from bridge.sidekiq.store.settlement import Settled
from tests.integration.proxy import Proxy
from tests.integration.worker import Worker, job, next_first, push, teach
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

Maker = Callable[..., Worker]


@pytest.fixture
def proxy(own_server: RedisServer) -> Iterator[Proxy]:
    made = Proxy(own_server.port)
    yield made
    made.close()


@pytest.fixture
def near(own_server: RedisServer, make_worker: Maker) -> Worker:
    """A worker that no network keeps from Redis."""
    return make_worker(own_server.port)


@pytest.fixture
def behind(make_worker: Maker, proxy: Proxy) -> Worker:
    """A worker behind the network."""
    worker = make_worker(proxy.port)
    teach(worker.client)
    worker.lease.ensure()
    return worker


def deliver(proxy: Proxy, near: Worker) -> None:
    """All that was held arrives, and Redis has carried it out."""
    addresses = proxy.deliver()
    assert addresses

    def is_carried_out() -> bool:
        return not addresses & {client["addr"] for client in near.client.client_list()}

    wait_for(is_carried_out, "Redis to have carried out what came late")


def turn_without_job(worker: Worker, seen_tail: tuple[str, bytes] | None = None) -> None:
    with pytest.raises(errors.StoreUnavailable):
        worker.take(seen_tail)
    worker.fetcher.reconciler.reconnect()


@pytest.mark.parametrize("kind", ["claim", "exact"])
def test_a_claim_that_arrives_after_its_worker_gave_it_up_takes_nothing(
    behind: Worker, near: Worker, proxy: Proxy, kind: str
) -> None:
    jobs = [job(**{"class": "NativeJob"}) for _ in range(4)]
    push(near.client, "default", *jobs)
    behind.gate.open = kind == "claim"
    proxy.hold(b"bridge:fence" if kind == "claim" else b"NativeJob")
    turn_without_job(behind, ("default", jobs[0]) if kind == "exact" else None)
    assert proxy.holds == 1

    # The worker asks what became of it, on another connection, and goes on
    assert behind.take() == []
    deliver(proxy, near)

    assert not near.client.exists(behind.inflight_key)
    assert next_first(near.client) == jobs
    assert [unit.delivery.payload for unit in behind.take()] == jobs


def test_a_claim_that_arrives_before_its_worker_asks_is_adopted(
    behind: Worker, near: Worker, proxy: Proxy
) -> None:
    push(near.client, "default", payload := job())
    proxy.hold(b"bridge:fence")
    turn_without_job(behind)
    deliver(proxy, near)

    (unit,) = behind.take()
    assert unit.delivery.payload == payload


def test_a_fence_that_arrives_late_itself_lowers_nothing_and_refuses_no_later_claim(
    behind: Worker, near: Worker, proxy: Proxy
) -> None:
    jobs = [job() for _ in range(8)]
    push(near.client, "default", *jobs)
    proxy.hold(b"bridge:fence")
    turn_without_job(behind)
    fence = f"bridge:fence:{behind.identity}".encode()
    proxy.hold(fence)
    turn_without_job(behind)
    assert proxy.holds == 2
    assert behind.take() == []
    raised = near.client.get(fence)
    units = behind.take()
    assert len(units) == 4

    deliver(proxy, near)

    assert near.client.get(fence) == raised
    assert near.client.hlen(behind.inflight_key) == 4
    assert next_first(near.client) == jobs[4:]
    for unit in units:
        behind.settle(unit)
    assert len(behind.take()) == 4


def test_at_maxmemory_a_claim_can_still_be_given_up(behind: Worker, near: Worker, proxy: Proxy) -> None:
    push(near.client, "default", job())
    proxy.hold(b"bridge:fence")
    turn_without_job(behind)
    near.client.config_set("maxmemory", 1)
    near.client.config_set("maxmemory-policy", "noeviction")

    assert behind.take() == []

    near.client.config_set("maxmemory", 0)
    assert near.client.exists(f"bridge:fence:{behind.identity}")


@pytest.mark.parametrize("decision", [Done(), Retry(5.0, b"{}"), GiveBack(), GiveBack(unknown_outcome=True)])
def test_a_settlement_that_arrives_late_has_no_second_effect(
    behind: Worker, near: Worker, proxy: Proxy, decision: Any
) -> None:
    push(near.client, "default", payload := job())
    (unit,) = behind.take()
    proxy.hold(b"stat:processed" if not isinstance(decision, GiveBack) else b"bridge:recovering")
    behind.fetcher.settle(unit.delivery.token, decision)
    with pytest.raises(errors.StoreUnavailable):
        behind.fetcher.turn(claim=False)
    behind.fetcher.turn(claim=False)
    behind.fetcher.turn(claim=False)
    before = _all_of(near)

    deliver(proxy, near)

    assert _all_of(near) == before
    assert [outcome for *_, outcome in behind.outcomes] == [Settled.OK]
    assert (payload in next_first(near.client)) is isinstance(decision, GiveBack)


def _all_of(worker: Worker) -> dict[bytes, bytes]:
    """Every key and its bytes, but for the fence."""
    names = [
        key for key in worker.client.scan_iter() if not key.startswith((b"bridge:fence:", b"bridge:lease"))
    ]
    return {key: worker.client.dump(key) for key in names}


def test_jobs_under_tokens_that_the_worker_does_not_know_are_given_back_at_a_renewal(
    near: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """However they came there: an idle worker looked only after a cut connection, and only for 30 s."""
    push(near.client, "default", known := job())
    (unit,) = near.take()
    stray = job()
    near.client.hset(near.inflight_key, "4711", b"1\ndefault\n" + stray)

    for _ in range(3):
        near.now += near.lease.length_seconds / 2
        near.reaper.round()
        near.fetcher.in_flight.unanswered._look_at = 0.0
        near.fetcher.turn(claim=False)
    near.fetcher.flush()

    assert near.client.hkeys(near.inflight_key) == [str(unit.delivery.token).encode()]
    assert next_first(near.client) == [stray]
    assert known not in next_first(near.client)
    assert "gave back 1 jobs that Redis held for" in caplog.text
    assert not list(near.client.scan_iter("bridge:recovered:*"))


def test_a_renewal_that_finds_the_numbers_equal_asks_nothing_more(near: Worker) -> None:
    push(near.client, "default", job())
    near.take()
    near.now += near.lease.length_seconds / 2
    near.reaper.round()
    assert not near.fetcher.in_flight.unanswered.due


def test_jobs_in_hand_that_redis_does_not_hold_are_named_once(
    near: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    push(near.client, "default", job(), job())
    near.take()
    near.client.delete(near.inflight_key)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            near.now += near.lease.length_seconds / 2
            near.reaper.round()
            near.fetcher.in_flight.unanswered._look_at = 0.0
            near.fetcher.turn(claim=False)
    assert caplog.text.count("Redis no longer holds 2 jobs that run here") == 1


def test_a_quiet_worker_gives_back_what_its_lost_claim_took(
    behind: Worker, near: Worker, proxy: Proxy
) -> None:
    """It stayed in flight until the worker ended, and then counted as found in the hands of a dead worker."""
    push(near.client, "default", *(jobs := [job(), job()]))
    proxy.lose_answer_to(b"bridge:fence")
    turn_without_job(behind)
    behind.fetcher.quiet()
    behind.fetcher.detach(behind)

    assert behind.fetcher.flush()

    assert next_first(near.client) == jobs
    assert not near.client.exists(behind.inflight_key)
    assert not list(near.client.scan_iter("bridge:recovered:*"))
