"""The order of jobs at a limit, over workers that claim and ask for places side by side."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from bridge.limits import declaration
from bridge.limits.limiter import Limiter
from bridge.redis.outages import raise_first_error
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Done, GiveBack
from bridge.sidekiq.store import lua
from tests.integration.worker import Worker, job, push, teach
from tests.support.limit_fleet import most_overtaken

WORKERS, SLOTS = 3, 20


class Racer:
    """A worker with limits, whose thread claims, asks for places, and ends what it may run."""

    def __init__(self, worker: Worker, limits: Any, began: list[str], all_done: threading.Event) -> None:
        self.worker, self.began, self.all_done = worker, began, all_done
        declared = declaration.limits(limits)
        self.limiter = Limiter(worker.store.client, declared, lambda: worker.identity, lambda: worker.fetcher)
        self.limiter.keep_order(worker.fetcher)
        worker.store.effects.sources.append(self.limiter.effects)
        worker.lease.ensure()
        self.give_back: Callable[[UnitOfWork], bool] = lambda unit: False
        self.ends_at = 10**9
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self.all_done.is_set() and len(self.began) < self.ends_at:
                units = self.worker.fetcher.turn().units
                for unit in self.limiter.admit(units) if units else ():
                    if self.give_back(unit):
                        self.worker.fetcher.settle(unit.delivery.token, GiveBack())
                        continue
                    self.began.append(unit.job.jid or "")
                    self.worker.fetcher.settle(unit.delivery.token, Done())
                self.limiter.lines.round()
            self.worker.fetcher.flush()
            if not self.all_done.is_set():
                self.limiter.lines.leave()
        except BaseException as error:
            self.failure = error
            self.all_done.set()


class Race:
    def __init__(self, make_worker: Callable[..., Worker], client: redis.Redis) -> None:
        self.make_worker, self.client = make_worker, client
        self.began: list[str] = []
        self.all_done = threading.Event()
        self.racers: list[Racer] = []

    def add(self, limits: Any, **options: Any) -> Racer:
        self.racers.append(
            Racer(
                self.make_worker(slots=SLOTS, lease_seconds=600.0, **options),
                limits,
                self.began,
                self.all_done,
            )
        )
        return self.racers[-1]

    def push(self, count: int, **fields: Any) -> list[str]:
        jids = [f"j{number:05d}" for number in range(count)]
        self.client.sadd("queues", "default")
        for begin in range(0, count, 1000):
            self.client.lpush(
                "queue:default", *(job(jid=jid, **fields) for jid in jids[begin : begin + 1000])
            )
        return jids

    def run(self, jids: list[str], seconds: float = 60.0) -> list[int]:
        """The number of each job, as they began."""
        for racer in self.racers:
            racer.thread.start()
        deadline = time.monotonic() + seconds
        while len(self.began) < len(jids) and time.monotonic() < deadline and not self.all_done.is_set():
            time.sleep(0.01)
        self.all_done.set()
        for racer in self.racers:
            racer.thread.join(10)
        raise_first_error([racer.failure for racer in self.racers])
        number_of = {jid: number for number, jid in enumerate(jids)}
        return [number_of[jid] for jid in self.began]


@pytest.fixture
def race(make_worker: Callable[..., Worker], empty_redis: redis.Redis) -> Race:
    empty_redis.script_flush()
    return Race(make_worker, empty_redis)


@pytest.mark.parametrize("cap", [1, 3])
def test_jobs_begin_in_the_order_of_their_queue_over_all_workers(race: Race, cap: int) -> None:
    """Workers parked their claims side by side, and the later claim could take the free place."""
    for _ in range(WORKERS):
        race.add([{"class": "HardJob", "concurrency": cap}])
    jids = race.push(1500)
    order = race.run(jids)
    assert sorted(order) == list(range(1500))
    assert most_overtaken(order) < cap
    assert race.client.keys("bridge:reserved:*") == []


def test_jobs_that_are_given_back_keep_their_order(race: Race) -> None:
    for _ in range(WORKERS):
        race.add([{"class": "HardJob", "concurrency": 1}])
    given_back: set[str] = set()

    def every_tenth_once(unit: UnitOfWork) -> bool:
        jid = unit.job.jid or ""
        if not jid.endswith("0") or jid in given_back:
            return False
        given_back.add(jid)
        return True

    for racer in race.racers:
        racer.give_back = every_tenth_once
    jids = race.push(500)
    assert race.run(jids) == list(range(500))
    assert len(given_back) == 50


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3)], ids=["lower", "higher"])
def test_jobs_keep_their_order_while_a_limit_changes(race: Race, before: int, after: int) -> None:
    """Given workers with the old number that end one after another, beside one with the new number."""
    for number in range(WORKERS):
        race.add([{"class": "HardJob", "concurrency": before}]).ends_at = 50 * (number + 1)
    race.add([{"class": "HardJob", "concurrency": after}])
    jids = race.push(500)
    order = race.run(jids)
    assert sorted(order) == list(range(500))
    assert most_overtaken(order) < 3


@pytest.mark.parametrize("rate", ["20/s"])
def test_a_rate_keeps_the_order_of_the_queue(race: Race, rate: str) -> None:
    for _ in range(WORKERS):
        race.add([{"class": "HardJob", "rate": rate}])
    jids = race.push(40)
    assert most_overtaken(race.run(jids)) < 3


def test_each_key_keeps_the_order_of_the_queue(race: Race) -> None:
    for _ in range(WORKERS):
        race.add([{"class": "HardJob", "concurrency": 1, "key": "args.0"}])
    jids = [f"j{number:05d}" for number in range(600)]
    race.client.sadd("queues", "default")
    race.client.lpush("queue:default", *(job(jid=jid, args=[n % 7]) for n, jid in enumerate(jids)))
    order = race.run(jids)
    for key in range(7):
        assert [number for number in order if number % 7 == key] == list(range(key, 600, 7))


def test_a_worker_without_limits_asks_redis_nothing_more(
    make_worker: Callable[..., Worker], empty_redis: redis.Redis
) -> None:
    worker = make_worker()
    limiter = Limiter(worker.store.client, (), lambda: worker.identity, lambda: worker.fetcher)
    limiter.keep_order(worker.fetcher)
    worker.gate.restricts = False
    teach(empty_redis)
    worker.lease.ensure()
    empty_redis.lpush("queue:default", job())
    worker.settle(worker.take()[0])
    empty_redis.lpush("queue:default", job())
    with empty_redis.monitor() as monitor:
        (unit,) = limiter.admit(worker.fetcher.turn().units)
        worker.settle(unit)
        empty_redis.echo("the end")
        sent = []
        for command in monitor.listen():
            if "the end" in command["command"]:
                break
            words = command["command"].split()[:2]
            if (
                command["db"] == 15
                and command["client_type"] != "lua"
                and words[0] not in ("HELLO", "CLIENT", "SELECT")
            ):
                sent.append(words)
    assert sent == [
        ["EVALSHA", lua.load("claim").sha.decode()],
        ["EVALSHA", lua.load("settle_done").sha.decode()],
    ]
    assert worker.fetcher.arrivals.may_take("default")


def test_no_watch_takes_from_a_queue_with_limited_jobs(make_worker: Callable[..., Worker]) -> None:
    """But beside processes of Sidekiq, which would take each job first."""
    worker = make_worker(queues=("default", "other"))
    declared = declaration.limits([{"class": "HardJob", "queue": "default", "concurrency": 1}])
    limiter = Limiter(worker.store.client, declared, lambda: worker.identity, lambda: worker.fetcher)
    limiter.keep_order(worker.fetcher)
    worker.gate.restricts = False
    worker.lease.ensure()
    assert not worker.fetcher.arrivals.may_take("default")
    assert worker.fetcher.arrivals.may_take("other")
    worker.client.sadd("processes", "stock:1:abc")
    worker.client.hset("stock:1:abc", "info", "{}")
    limiter.round()
    assert worker.fetcher.arrivals.may_take("default")


def test_a_job_that_waits_without_a_queue_gets_one_in_schedule(make_worker: Callable[..., Worker]) -> None:
    """The Scheduled page of Sidekiq 8.1 answered 500: a job that was pushed by hand named no queue."""
    worker = make_worker(slots=3)
    client = worker.client
    one_at_once = declaration.limits([{"class": "HardJob", "concurrency": 1}])
    limiter = Limiter(client, one_at_once, lambda: worker.identity, lambda: worker.fetcher)
    worker.lease.ensure()
    nameless = job(jid="no jid of ours")
    push(client, "default", job(jid="runs"), job(jid="waits"), nameless)

    assert [unit.job.jid for unit in limiter.admit(worker.fetcher.turn().units)] == ["runs"]

    # A job that is known by its bytes keeps them
    waiting, other = map(bytes, client.zrange("schedule", 0, -1))
    assert (json.loads(waiting)["jid"], json.loads(waiting)["queue"]) == ("waits", "default")
    assert other == nameless
