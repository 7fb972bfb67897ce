"""Limits at the sizes of a fleet: workers, waiting jobs, keys, and kill -9. Each test is bounded in time."""

from __future__ import annotations

import random
import time

from bridge.sidekiq.store.store import RedisStore
from tests.integration.test_limit_scripts import ME, Fleet
from tests.integration.worker import connect_to, job
from tests.support.limit_fleet import LimitFleet
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for, wait_until_equal

KEYS_OF_REDIS = ("places", "reserved", "waiting", "starts")


def nothing_is_left(fleet: LimitFleet) -> None:
    wait_for(lambda: not fleet.redis.keys("bridge:inflight:*"), "the settlements")
    for kind in KEYS_OF_REDIS:
        assert fleet.redis.keys(f"bridge:{kind}:*") == []
    assert not fleet.redis.exists("bridge:waiting", "bridge:lines", "schedule")


def commands(fleet: LimitFleet) -> int:
    return int(fleet.redis.info("stats")["total_commands_processed"])


def test_five_workers_of_twenty_slots_never_run_four_jobs_of_three_while_they_are_killed(
    fleet: LimitFleet, seed: int
) -> None:
    limits = [{"class": "NativeSleepJob", "concurrency": 3}]
    chance = random.Random(seed)
    for _ in range(5):
        fleet.start(limits, concurrency=20)
    jids = fleet.push("NativeSleepJob", 500, 0.1)
    for _ in range(5):
        before = fleet.done(jids)
        wait_for(lambda before=before: fleet.done(jids) > before + 20, "progress", 30)
        fleet.kill(chance.choice(fleet.workers))
        fleet.start(limits, concurrency=20)
    fleet.wait_done(jids, 120)
    assert fleet.most_at_once() <= 3
    nothing_is_left(fleet)


def test_ten_thousand_waiting_jobs_cost_nothing_and_slow_no_other_class(fleet: LimitFleet) -> None:
    """At most 20 commands a second for each worker, those within scripts counted."""
    limits = [{"class": "NativeGateJob", "concurrency": 1}]
    workers = [fleet.start(limits, concurrency=20) for _ in range(2)]
    others = fleet.push("NativeEchoJob", 3000)
    began = time.monotonic()
    fleet.wait_done(others)
    alone = time.monotonic() - began
    fleet.push("NativeGateJob", 10_000, "shut")
    wait_until_equal(lambda: fleet.redis.zcard("bridge:waiting:NativeGateJob:all"), 9999, "the line", 60)

    def each_second() -> float:
        before, at = commands(fleet), time.monotonic()
        time.sleep(3.0)
        return (commands(fleet) - before) / (time.monotonic() - at) / len(workers)

    wait_for(lambda: each_second() <= 20, "at most 20 commands a second of each worker", 30)
    others = fleet.push("NativeEchoJob", 3000)
    began = time.monotonic()
    fleet.wait_done(others)
    assert time.monotonic() - began < 2 * alone + 1


def test_a_thousand_keys_have_limits_of_their_own(fleet: LimitFleet) -> None:
    limits = [{"class": "NativeSleepJob", "concurrency": 1, "key": "customer"}]
    for _ in range(3):
        fleet.start(limits, concurrency=20)
    customer_of = {}
    for customer in range(1000):
        for jid in fleet.push("NativeSleepJob", 4, 0.005, customer=customer):
            customer_of[jid] = customer
    fleet.wait_done(list(customer_of), 120)
    assert fleet.most_at_once(lambda line: customer_of[line["jid"]]) == 1
    nothing_is_left(fleet)


def test_a_hundred_thousand_keys_take_bounded_memory_and_are_gone_in_the_end(
    redis_server: RedisServer,
) -> None:
    client = connect_to(redis_server.port, 8)
    client.flushdb()
    store = RedisStore(client)
    store.lease(ME, 3_600_000, register=True)
    fleet = Fleet(store, [{"class": "HardJob", "concurrency": 1, "key": "args.0"}])
    empty, most = client.info("memory")["used_memory"], 0
    for begin in range(0, 100_000, 1000):
        names = [f"k{number}" for number in range(begin, begin + 1000)]
        assert all(fleet.take(job(jid=name, args=[name])) for name in names)
        waiting = [f"{name}-2" for name in names[::10]]
        assert not any(fleet.take(job(jid=name, args=[name.removesuffix("-2")])) for name in waiting)
        most = max(most, client.dbsize())
        for name in names:
            fleet.settle(name)
        assert all(fleet.next()[1] for _ in waiting)
        for name in waiting:
            fleet.settle(name)
    # One key for the place of each job that runs, and one for each line
    assert most < 1000 + 100 + 20
    assert not client.keys("bridge:[prw]*")
    assert not client.exists("bridge:lines", "schedule")
    assert client.info("memory")["used_memory"] < empty + 5_000_000
    client.flushdb()
    client.close()
