"""BRIDGE_POISON_PILL_LIMIT: how often a job may lose its worker until it is buried."""

from __future__ import annotations

import json

import pytest

from bridge.settings import load
from bridge.settings.overrides import overrides
from bridge.sidekiq.lease.reaper import Reaper
from bridge.sidekiq.outcome.dialect import Dialect
from tests.integration.worker import Worker, job, next_first, push


@pytest.mark.parametrize(("value", "lives"), [("1", 0), ("2", 1), (None, 2), ("0", 6)])
def test_a_job_that_loses_its_worker_too_often_is_buried(
    worker: Worker, value: str | None, lives: int
) -> None:
    settings = load({} if value is None else {"BRIDGE_POISON_PILL_LIMIT": value})
    dialect = Dialect(overrides(settings))
    dialect.learn("7.3.0", 25)  # what a sidecar reports must not reset it
    reaper = Reaper(worker.store, worker.fetcher.lease, lambda: dialect.dead_limits)
    push(worker.client, "default", payload := job())

    def lose_the_worker() -> None:
        worker.take()
        reaper.reap(worker.fetcher.lease.identity)
        worker.fetcher.in_flight.held.clear()
        worker.fetcher.lease.register()

    for _ in range(lives):
        lose_the_worker()
        assert next_first(worker.client) == [payload]
        assert not worker.client.exists("dead")
    if value != "0":
        lose_the_worker()
        (buried,) = worker.client.zrange("dead", 0, -1)
        assert json.loads(buried)["error_class"] == "Bridge::PoisonPill"
        assert "BRIDGE_POISON_PILL_LIMIT" in json.loads(buried)["error_message"]
        assert not worker.client.exists("queue:default")


def test_a_job_that_never_began_is_given_back_without_a_count(worker: Worker) -> None:
    """A rate limit held it: four crashes of its worker buried it, and it had never run."""
    push(worker.client, "default", payload := job())
    (unit,) = worker.take()
    worker.fetcher.in_flight.aside.add(unit.delivery)
    reaper = Reaper(worker.store, worker.fetcher.lease)

    assert reaper.reap(unit.delivery.identity) == 1

    assert next_first(worker.client) == [payload]
    assert not list(worker.client.scan_iter("bridge:recovered:*"))
    assert not list(worker.client.scan_iter("bridge:unbegun:*"))
    assert not worker.client.exists("bridge:recovering")


def test_a_job_set_aside_takes_no_slot_until_its_time_has_come(worker: Worker) -> None:
    push(worker.client, "default", *(job() for _ in range(9)))
    in_flight = worker.fetcher.in_flight
    first, second, *_ = worker.take()
    assert (len(in_flight.held), in_flight.free_slots) == (4, 0)

    in_flight.aside.add(first.delivery)
    in_flight.aside.add(second.delivery)
    assert (in_flight.size, in_flight.free_slots) == (4, 2)
    in_flight.aside.make_ready(first.delivery.token)
    assert in_flight.free_slots == 1
    assert in_flight.aside.take(second.delivery.token)
    assert not in_flight.aside.take(second.delivery.token)
    assert in_flight.free_slots == 0
