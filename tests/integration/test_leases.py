"""Leases while clocks step, processes freeze, and Redis loses ``bridge:lease``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.sidekiq.api.processes import Processes
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.lease.other_leases import LONGEST_SECONDS, MARGIN_SECONDS
from bridge.sidekiq.outcome.decision import Bury, Retry
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.schedule import due_watch
from bridge.sidekiq.schedule.due_watch import DueWatch
from bridge.sidekiq.schedule.scheduler import Scheduler
from tests.integration.worker import Worker, connect_to, job, next_first, push
from tests.support.forks import begin_in_fork, status_of
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for
from tests.support.wall_clock import WallClock

Maker = Callable[..., Worker]
LENGTH = 15.0


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    """The wall clock of the machine that Redis runs on."""
    return WallClock(tmp_path)


@pytest.fixture
def server(tmp_path: Path, clock: WallClock) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, wrapper=clock.wrapper)
    yield server
    server.stop()


class Fleet:
    """Workers on one Redis whose own steady clocks a test moves on."""

    def __init__(self, port: int, count: int = 3, name: str = "host") -> None:
        self.workers = [Worker(f"{name}{number}:1", port) for number in range(count)]
        self.beside: Callable[[], None] = lambda: None
        """What others do before each look."""
        for worker in self.workers:
            worker.lease.register()
            worker.reaper.others._clock = lambda worker=worker: worker.now  # type: ignore[misc]

    def take_one_each(self) -> list[UnitOfWork]:
        units = []
        for worker in self.workers:
            push(worker.client, "default", job())
            units += worker.take()
        return units

    def pass_seconds(self, seconds: float, *, living: list[Worker] | None = None) -> None:
        """Time goes on, by the steady clocks; those that live look every 1.6 s."""
        for _ in range(round(seconds / 1.6)):
            self.beside()
            for worker in self.workers if living is None else living:
                worker.now += 1.6
                worker.reaper.round()
                worker.reaper.round()

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


@pytest.fixture
def fleet(server: RedisServer) -> Iterator[Fleet]:
    fleet = Fleet(server.port)
    yield fleet
    fleet.close()


class Crowd:
    """The leases of many more workers that live, as Redis sees them."""

    def __init__(self, worker: Worker, count: int = 400) -> None:
        self._client = worker.client
        self._names = [f"crowd:{number}:0123456789ab" for number in range(count)]

    def renew(self) -> None:
        seconds, micros = self._client.time()
        end = seconds * 1000 + micros // 1000 + LENGTH * 1000 + LENGTH / 1024
        self._client.zadd("bridge:lease", dict.fromkeys(self._names, end))

    def commands(self, name: str) -> int:
        """How often Redis has carried out this command."""
        stats: Any = self._client.info("commandstats")
        return int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"])


@pytest.fixture
def crowd(fleet: Fleet) -> Crowd:
    crowd = Crowd(fleet.workers[0])
    crowd.renew()
    fleet.beside = crowd.renew
    return crowd


def test_a_worker_reads_all_leases_the_rarer_the_more_there_are(fleet: Fleet, crowd: Crowd) -> None:
    """Each worker read the leases of all, every 1.6 s: this work grew with the square of the fleet."""
    # Given a worker that has read the leases of a fleet of 400
    worker = fleet.workers[0]
    fleet.pass_seconds(1.6, living=[worker])
    before = crowd.commands("zrange")
    # When it looks 50 times, within 80 s
    fleet.pass_seconds(80, living=[worker])
    # Then it has read all of them every 20 to 60 s
    assert 1 <= crowd.commands("zrange") - before <= 4


@pytest.mark.parametrize("end", ["ended by its keeper", "over by TIME"])
def test_the_next_look_finds_a_dead_worker_in_a_large_fleet(fleet: Fleet, crowd: Crowd, end: str) -> None:
    fleet.pass_seconds(2 * LENGTH)
    fleet.take_one_each()
    dead, reaper, _ = fleet.workers
    dead.client.zadd("bridge:lease", {dead.identity: 0 if end == "ended by its keeper" else 1000})
    reaper.reaper.others._read_at = reaper.now + 3600
    fleet.pass_seconds(1.6, living=[reaper])
    assert len(next_first(dead.client)) == 1


def test_in_a_large_fleet_who_dies_while_redis_clock_goes_back_is_found_as_soon(
    fleet: Fleet, crowd: Crowd, clock: WallClock
) -> None:
    fleet.pass_seconds(2 * LENGTH)
    fleet.take_one_each()
    dead, *living = fleet.workers
    for worker in living:
        worker.reaper.others._read_at = worker.now + 3600

    clock.set(-3600.0)
    fleet.pass_seconds(2 * LENGTH + MARGIN_SECONDS + 2, living=living)

    assert len(next_first(dead.client)) == 1
    assert all(worker.client.hlen(worker.inflight_key) == 1 for worker in living)


def test_a_large_fleet_gives_the_jobs_of_the_dead_back_though_redis_lost_the_leases(
    fleet: Fleet, crowd: Crowd
) -> None:
    fleet.take_one_each()
    fleet.pass_seconds(2 * LENGTH)
    dead, *living = fleet.workers
    dead.client.zrem("bridge:lease", dead.identity)
    fleet.pass_seconds(60 + 2 * LENGTH, living=living)
    assert len(next_first(dead.client)) == 1
    assert all(worker.client.hlen(worker.inflight_key) == 1 for worker in living)


def test_a_lease_that_a_person_has_made_endless_is_over_as_the_longest_one_is(fleet: Fleet) -> None:
    """Its length was no number, so the jobs of its dead holder stayed in flight for ever."""
    fleet.take_one_each()
    dead, *living = fleet.workers
    dead.client.zadd("bridge:lease", {dead.identity: "inf"})
    fleet.pass_seconds(LONGEST_SECONDS - LENGTH, living=living)
    assert next_first(dead.client) == []
    fleet.pass_seconds(2 * LENGTH, living=living)
    assert len(next_first(dead.client)) == 1
    assert all(worker.client.hlen(worker.inflight_key) == 1 for worker in living)


@pytest.mark.parametrize("step", [20.0, 3600.0, -20.0, -3600.0, 86400.0])
def test_a_step_of_redis_clock_takes_no_job_from_the_living(
    fleet: Fleet, clock: WallClock, step: float
) -> None:
    """15 of 15 running jobs ran twice: all leases had run out at once, and every worker reaped the others."""
    fleet.take_one_each()
    fleet.pass_seconds(2 * LENGTH)
    identities = [worker.identity for worker in fleet.workers]

    clock.set(step)
    fleet.pass_seconds(4 * LENGTH)

    assert [worker.identity for worker in fleet.workers] == identities
    assert next_first(fleet.workers[0].client) == []
    for worker in fleet.workers:
        assert worker.client.hlen(worker.inflight_key) == 1


@pytest.mark.parametrize("step", [20.0, -20.0, -3600.0])
def test_who_dies_around_a_step_is_found_within_two_terms_and_the_time_to_be_sure(
    fleet: Fleet, clock: WallClock, step: float
) -> None:
    """After the clock went back an hour, the jobs of a dead machine were in flight for that hour."""
    fleet.take_one_each()
    fleet.pass_seconds(2 * LENGTH)
    dead, *living = fleet.workers

    clock.set(step)
    fleet.pass_seconds(2 * LENGTH + MARGIN_SECONDS + 2, living=living)

    assert len(next_first(dead.client)) == 1
    assert not dead.client.exists(dead.inflight_key)
    assert all(worker.client.hlen(worker.inflight_key) == 1 for worker in living)


def test_a_look_that_redis_gets_late_takes_no_job(fleet: Fleet) -> None:
    """A Redis that stood still carries out what lies in its buffers: by then every lease has run out."""
    fleet.take_one_each()
    fleet.pass_seconds(2 * LENGTH)
    reaper, other, _ = fleet.workers
    window = reaper.lease.redis_clock.window
    other.client.zadd("bridge:lease", {other.identity: 1.0}, xx=True)

    late = window[0] - 60_000, window[1] - 60_000
    assert reaper.store.expired_leases(reaper.identity, window=late) == []
    assert reaper.store.expired_leases(reaper.identity, window=window) == [other.identity]


def test_a_worker_behind_redis_clock_finds_the_dead_as_soon_as_one_before_it(
    fleet: Fleet, clock: WallClock
) -> None:
    """It compared leases with its own wall clock; a keeper that died with its worker ends no lease."""
    clock.set(5000.0)
    fleet.pass_seconds(4 * LENGTH)
    fleet.take_one_each()
    dead, *living = fleet.workers
    dead.client.zadd("bridge:lease", {dead.identity: dead.client.time()[0] * 1000 - 1}, xx=True)
    fleet.pass_seconds(1.6, living=living[:1])
    assert len(next_first(dead.client)) == 1


def test_an_entry_that_a_step_of_redis_clock_makes_due_is_promoted_soon(
    fleet: Fleet, clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler slept until the entry was due by its own clock: as much later as Redis' clock was set."""
    monkeypatch.setattr(due_watch, "LOOK_SECONDS", 0.5)
    worker = fleet.workers[0]
    watch = DueWatch(worker.client)
    scheduler = Scheduler(worker.store, lambda: Timestamps.SECONDS, watch=watch)
    worker.client.zadd("schedule", {job(): worker.client.time()[0] + 3600})
    scheduler.round()
    clock.set(3601.0)
    wait_for(lambda: scheduler.round() and worker.client.llen("queue:default"), "the entry in its queue", 5)


@pytest.mark.parametrize("step", [7200.0, -7200.0])
def test_a_retry_is_due_by_redis_clock_where_that_of_the_worker_is_wrong(
    fleet: Fleet, clock: WallClock, step: float
) -> None:
    """A worker two hours behind wrote retries that were due at once, and spent all attempts."""
    clock.set(step)  # Redis is right, and this process is wrong
    fleet.pass_seconds(LENGTH)
    worker = fleet.workers[0]
    push(worker.client, "default", job())
    (unit,) = worker.take()
    worker.settle(unit, Retry(time.time() + 100, job()))
    ((_, due),) = worker.client.zrange("retry", 0, -1, withscores=True)
    assert abs(due - worker.client.time()[0] - 100) < 5


def test_a_worker_whose_clock_is_a_year_ahead_empties_no_dead_set(fleet: Fleet, clock: WallClock) -> None:
    clock.set(-366 * 86_400.0)
    fleet.pass_seconds(LENGTH)
    worker = fleet.workers[0]
    worker.client.zadd("dead", {"old": worker.client.time()[0] - 60})
    push(worker.client, "default", job())
    (unit,) = worker.take()
    worker.settle(unit, Bury(job(), ran=True))
    assert worker.client.zcard("dead") == 2


# -- identities


def test_an_identity_that_was_lost_is_never_held_again(fleet: Fleet) -> None:
    """A thawed worker logged FENCED, took another identity, and began 9 of 10 jobs that others had run."""
    frozen, other, _ = fleet.workers
    push(frozen.client, "default", *(job() for _ in range(4)))
    units = list(frozen.fetcher.turn().units)
    frozen.now += 60
    frozen.client.zadd("bridge:lease", {frozen.identity: 1.0}, xx=True)
    fleet.pass_seconds(2 * LENGTH, living=[other])

    assert [frozen.lease.holds(unit.delivery.identity) for unit in units] == [False] * 4
    assert frozen.lease.holds(frozen.identity)


def test_a_renewal_by_the_keeper_counts_from_the_moment_it_was_made(fleet: Fleet) -> None:
    """A freeze soon after looks like a short one, and yet the lease has run out."""
    worker = fleet.workers[0]
    now = worker.client.time()[0] * 1000
    worker.client.zadd("bridge:lease", {worker.identity: now + 10_000}, xx=True)  # made 5 s ago
    worker.lease._end_ms = now - 1
    worker.lease.keep()
    assert 4 < worker.lease.age_seconds < 7


@pytest.mark.parametrize("replaced", [False, True])
def test_a_pool_process_sees_what_its_parent_knows(fleet: Fleet, replaced: bool) -> None:
    """It trusted its parent: a job that lay in its pipe while both were frozen ran a second time."""
    lease = fleet.workers[0].lease
    identity = lease.identity
    fleet.workers[0].now += 60
    reading, writing = os.pipe()

    def in_the_pool_process() -> int:
        lease.clock = lambda: 1000.0 + 60
        lease._shared._clock = time.monotonic  # waits for real, for the parent to renew
        os.write(writing, b"waits")
        return 3 if lease.holds(identity) else 4

    child = begin_in_fork(in_the_pool_process)
    os.read(reading, 5)
    if replaced:
        fleet.workers[0].client.zadd("bridge:lease", {identity: -1}, xx=True)
    lease.clock = time.monotonic
    lease.renew()
    assert status_of(child) == (4 if replaced else 3)


# -- bridge:lease lost, alone


def test_a_living_worker_takes_a_lost_lease_again_under_its_own_name(fleet: Fleet) -> None:
    units = fleet.take_one_each()
    identities = [worker.identity for worker in fleet.workers]
    fleet.pass_seconds(2 * LENGTH)
    fleet.workers[0].client.delete("bridge:lease")

    fleet.pass_seconds(4 * LENGTH)

    assert [worker.identity for worker in fleet.workers] == identities
    for worker, unit in zip(fleet.workers, units, strict=True):
        worker.settle(unit)
    assert fleet.workers[0].client.get("stat:processed") == b"3"
    assert next_first(fleet.workers[0].client) == []


def test_a_claim_that_meets_a_lost_lease_costs_no_identity(fleet: Fleet) -> None:
    worker = fleet.workers[0]
    fleet.take_one_each()
    identity = worker.identity
    worker.client.delete("bridge:lease")
    worker.fetcher.turn()
    assert worker.identity == identity
    push(worker.client, "default", job())
    assert len(worker.take()) == 1


def test_the_jobs_of_the_dead_are_given_back_though_redis_lost_the_leases(fleet: Fleet) -> None:
    fleet.take_one_each()
    fleet.pass_seconds(2 * LENGTH)
    dead, *living = fleet.workers
    dead.client.delete("bridge:lease")
    fleet.pass_seconds(3 * LENGTH, living=living)
    assert len(next_first(dead.client)) == 1
    assert all(worker.client.hlen(worker.inflight_key) == 1 for worker in living)


def test_a_worker_that_starts_finds_jobs_in_flight_without_a_lease(fleet: Fleet, server: RedisServer) -> None:
    """All workers had died and ``bridge:lease`` was gone: no worker would ever have given the jobs back."""
    fleet.take_one_each()
    fleet.workers[0].client.delete("bridge:lease")
    later = Fleet(server.port, 1, "later")
    try:
        later.pass_seconds(3 * LENGTH)
        assert len(next_first(later.workers[0].client)) == 3
    finally:
        later.close()


def test_a_lease_that_was_never_taken_holds_nothing_back() -> None:
    """The command line has no lease, and a pool process that was started in another way has none either."""
    store: object = object()
    assert Lease(store, lambda: "host:1:abc").holds("any:1:name")  # type: ignore[arg-type]


def test_redis_tells_the_time_that_a_test_sets(server: RedisServer, clock: WallClock) -> None:
    """The shim shifts what Redis says, and nothing else."""
    client = connect_to(server.port)
    clock.set(-3600.5)
    assert abs(client.time()[0] - time.time() + 3600) < 3
    client.close()


@pytest.mark.parametrize("score", [0, 1, "inf"])
def test_a_foreign_name_among_the_leases_keeps_no_job_of_the_dead(fleet: Fleet, score: Any) -> None:
    """One name that is not UTF-8 raised in each look of each reaper: jobs of the dead stayed in flight."""
    fleet.take_one_each()
    fleet.pass_seconds(2 * LENGTH)
    dead, *living = fleet.workers
    dead.client.zadd("bridge:lease", {b"\xff:1:\xfe": score})
    dead.client.hset(b"bridge:inflight:\xfd", "1", b"1\ndefault\n{}")
    dead.client.zadd("bridge:lease", {dead.identity: 0})
    fleet.pass_seconds(2 * LENGTH, living=living)
    assert len(next_first(dead.client)) == 1
    assert not dead.client.exists(dead.inflight_key)
    assert Processes(dead.client).leases()


def test_a_lease_that_its_worker_has_ended_is_not_taken_again_by_a_thread_that_stops_later(
    server: RedisServer,
) -> None:
    """The reaper's thread renewed after the end: the worker warned of a lost lease, and left a new one."""
    (worker,) = Fleet(server.port, 1).workers
    before = worker.identity
    worker.lease.leave()

    worker.lease.renew()
    worker.lease.keep()

    assert worker.identity == before
    assert not worker.client.exists("bridge:lease")
