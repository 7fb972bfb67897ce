"""Limits of sidekiq-limit_fetch: its keys hold for the bridge's workers too, beside processes of Ruby."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from bridge.sidekiq.fetch.limit_fetch import LimitFetch
from tests.integration.worker import Worker, job, push

Maker = Callable[..., Worker]
RUBY = "4c7e7e1a-ruby"


@pytest.fixture
def limit(make_worker: Maker) -> Callable[..., Worker]:
    """Makes a worker that keeps the gem's limits; ``limits`` is its part that does so."""

    def made(*queues: str, slots: int = 6) -> Worker:
        worker = make_worker(queues=queues or ("default",), slots=slots)
        rooms = worker.fetcher.rooms
        worker.limits = LimitFetch(
            worker.store.client,
            lambda: worker.identity,
            lambda: worker.order.names,
            lambda: rooms.held,
            lambda: rooms.add(worker.limits),
        )
        worker.limits.round()
        return worker

    return made


def places(client: redis.Redis, queue: str = "default") -> list[bytes]:
    return client.lrange(f"limit_fetch:probed:{queue}", 0, -1)


def ruby_takes(client: redis.Redis, count: int, *, lives: bool = True) -> None:
    """As a process with the gem: registered, and one entry for each job."""
    client.sadd("limit:processes", RUBY)
    if lives:
        client.set(f"limit:heartbeat:{RUBY}", 1, ex=20)
    for _ in range(count):
        client.rpush("limit_fetch:probed:default", RUBY)


def test_workers_and_ruby_processes_keep_one_limit_together(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    empty_redis.set("limit_fetch:limit:default", 3)
    push(empty_redis, "default", *[job() for _ in range(10)])
    ruby_takes(empty_redis, 1)
    first, second = limit(), limit()

    units = first.take()
    assert len(units) == 2
    assert second.take() == []
    assert sorted(places(empty_redis)) == sorted([RUBY.encode(), *[first.identity.encode()] * 2])

    first.settle(units[0])
    first.limits.round()
    assert len(second.take()) == 1
    assert len(places(empty_redis)) == 3


def test_a_job_of_the_same_worker_takes_the_place_that_another_left(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    empty_redis.set("limit_fetch:limit:default", 1)
    push(empty_redis, "default", job(), job())
    worker = limit()
    (unit,) = worker.take()
    assert worker.fetcher.turn().paused == {"default"}

    worker.settle(unit)
    assert len(worker.take()) == 1
    assert places(empty_redis) == [worker.identity.encode()]


def test_each_worker_keeps_the_limit_of_a_process(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    empty_redis.set("limit_fetch:process_limit:default", 2)
    push(empty_redis, "default", *[job() for _ in range(10)])
    first, second = limit(), limit()
    assert [len(first.take()), len(first.take()), len(second.take())] == [2, 0, 2]


def test_a_paused_queue_gives_no_job_until_it_goes_on(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    empty_redis.set("limit_fetch:pause:default", 1)
    push(empty_redis, "default", job())
    push(empty_redis, "other", job())
    worker = limit("default", "other")

    assert [unit.delivery.queue for unit in worker.take()] == ["other"]
    empty_redis.delete("limit_fetch:pause:default")
    worker.limits.round()
    assert worker.fetcher.rooms.freed
    assert [unit.delivery.queue for unit in worker.take()] == ["default"]


def test_a_limited_queue_keeps_no_other_waiting(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    empty_redis.set("limit_fetch:limit:default", 1)
    push(empty_redis, "default", *[job() for _ in range(10)])
    push(empty_redis, "other", *[job() for _ in range(10)])
    worker = limit("default", "other")
    assert sorted(unit.delivery.queue for unit in worker.take()) == ["default", *["other"] * 5]


def test_an_empty_limited_queue_is_watched_and_its_place_is_not_kept(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    empty_redis.set("limit_fetch:limit:default", 1)
    worker = limit()
    assert worker.fetcher.turn().paused == frozenset()
    assert places(empty_redis) == []


def test_the_places_of_a_process_without_a_heartbeat_come_free(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    empty_redis.set("limit_fetch:limit:default", 1)
    push(empty_redis, "default", job())
    ruby_takes(empty_redis, 1, lives=False)
    worker = limit()
    assert len(worker.take()) == 1
    assert empty_redis.smembers("limit:processes") == {worker.identity.encode()}


def test_a_limit_that_is_raised_or_removed_holds_from_the_next_look_on(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    empty_redis.set("limit_fetch:limit:default", 1)
    push(empty_redis, "default", *[job() for _ in range(10)])
    worker = limit()
    assert len(worker.take()) == 1
    empty_redis.set("limit_fetch:limit:default", 2)
    worker.limits.round()
    assert len(worker.take()) == 1
    empty_redis.delete("limit_fetch:limit:default")
    worker.limits.round()
    assert len(worker.take()) == 4


def test_a_worker_that_ends_leaves_nothing_behind(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    empty_redis.set("limit_fetch:limit:default", 3)
    push(empty_redis, "default", job(), job())
    worker = limit()
    worker.take()
    worker.limits.leave()
    assert sorted(empty_redis.keys("limit*")) == [b"limit_fetch:limit:default"]


def test_without_limits_the_worker_asks_little_and_claims_as_ever(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    worker = limit()
    assert worker.limits.round() == 10.0
    assert worker.fetcher.rooms.limited == frozenset()
    worker.limits.expect()
    assert worker.limits.round() == 1.0


def test_odd_values_limit_nothing(empty_redis: redis.Redis, limit: Callable[..., Worker]) -> None:
    empty_redis.set("limit_fetch:limit:default", "many")
    push(empty_redis, "default", *[job() for _ in range(10)])
    assert len(limit().take()) == 6


def test_a_large_fleet_looks_for_dead_processes_the_rarer_the_larger_it_is(
    empty_redis: redis.Redis, limit: Callable[..., Worker]
) -> None:
    """Each worker asked for the heartbeats of all others every five seconds."""
    # Given a worker that keeps a limit together with 200 processes
    empty_redis.set("limit_fetch:limit:default", 3)
    for number in range(200):
        empty_redis.sadd("limit:processes", f"other-{number}")
        empty_redis.set(f"limit:heartbeat:other-{number}", 1, ex=20)
    worker = limit()
    empty_redis.config_resetstat()
    # When its own heartbeat is due three times more
    for _ in range(3):
        worker.limits._beat_at = 0.0
        worker.limits.round()
    # Then it has told that it lives, and has asked for no other
    stats = empty_redis.info("commandstats")
    assert stats["cmdstat_set"]["calls"] == 3
    assert "cmdstat_smembers" not in stats
