"""Redis that dies, refuses, freezes, forgets: jobs wait, none is lost, and none runs twice for it."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator

import psutil
import pytest
import redis

from tests.faults.report import Report
from tests.faults.rig import LEASE_SECONDS, Rig, seconds_until
from tests.faults.settle import settle_once
from tests.support.waiting import wait_for

#: What the issue promises: the first job that soon after Redis is back.
BACK_SECONDS = 10


def seconds_to_next_done(rig: Rig) -> float:
    """How long until a job is done that was begun from now on."""
    now = time.time()

    def has_one() -> bool:
        lines = rig.ledger.lines
        begun = {line["jid"] for line in lines if line["event"] == "started" and line["at"] > now}
        return any(line["event"] == "done" and line["jid"] in begun for line in lines)

    return seconds_until(has_one, "a job to be done after the outage", 40)


@contextlib.contextmanager
def configured(rig: Rig, **values: object) -> Iterator[None]:
    """Redis is so configured meanwhile."""
    names = {name.replace("_", "-"): value for name, value in values.items()}
    before = {name: rig.redis.config_get(name)[name] for name in names}
    try:
        for name, value in names.items():
            rig.redis.config_set(name, value)
        yield
    finally:
        for name, value in before.items():
            rig.redis.config_set(name, value)


# -- 21, 23, 27: it dies and comes back


@pytest.mark.short
def test_a_killed_redis_costs_nothing_and_work_goes_on_within_ten_seconds(rig: Rig, report: Report) -> None:
    with rig.feeding():
        rig.wait_more_done(40)
        rig.server.process.kill()
        time.sleep(1)
        rig.server.start()
        recovery = seconds_to_next_done(rig)
        rig.wait_more_done(40)

    assert recovery < BACK_SECONDS
    settle_once(rig, report, "21 kill -9 of Redis, restart", recovery)


def test_an_outage_longer_than_the_lease_declares_nobody_dead(rig: Rig, report: Report) -> None:
    with rig.feeding([("SleepJob", [LEASE_SECONDS * 3]), ("NativeSleepJob", [LEASE_SECONDS * 3])]):
        wait_for(lambda: rig.ledger.count("started") >= 16, "all slots to be busy", 40)
    rig.server.process.kill()
    time.sleep(LEASE_SECONDS * 2)
    rig.server.start()

    settle_once(rig, report, "23 Redis away for two leases, all slots busy", None)


def test_a_redis_that_loads_its_data_is_waited_for(rig: Rig, report: Report) -> None:
    rig.redis.mset({f"bridge:filler:{number}": "x" for number in range(4000)})
    arguments = rig.server.arguments
    with rig.feeding():
        rig.wait_more_done(20)
        rig.server.process.kill()
        rig.server.arguments = (*arguments, "--key-load-delay", "1000")
        started = time.monotonic()
        rig.server.start()
        took = time.monotonic() - started
        rig.server.arguments = arguments
        rig.redis.config_set("key-load-delay", 0)
        recovery = seconds_to_next_done(rig)

    assert took > 1
    assert recovery < BACK_SECONDS
    settle_once(rig, report, "27 Redis restarts and loads for seconds", recovery)


# -- 26, 28, 29, 34: it refuses


@pytest.mark.short
def test_a_demoted_redis_is_waited_for(rig: Rig, report: Report) -> None:
    with rig.feeding():
        rig.wait_more_done(40)
        rig.redis.replicaof("127.0.0.1", "1")
        time.sleep(2)
        rig.redis.replicaof("NO", "ONE")
        recovery = seconds_to_next_done(rig)

    assert recovery < BACK_SECONDS
    settle_once(rig, report, "26 READONLY: Redis is a replica for a while", recovery)


def test_at_maxmemory_the_backlog_drains(rig: Rig, report: Report) -> None:
    with rig.feeding(rate=100):
        rig.wait_more_done(40)
    with configured(rig, maxmemory=1, maxmemory_policy="noeviction"):
        rig.wait_quiet_but_for_retries()
        with pytest.raises(redis.OutOfMemoryError):
            rig.redis.set("bridge:anything", 1)

    settle_once(rig, report, "28 OOM with noeviction", None, "the backlog drained at maxmemory")


def test_a_redis_without_its_replicas_is_waited_for(rig: Rig, report: Report) -> None:
    with rig.feeding():
        rig.wait_more_done(40)
        with configured(rig, min_replicas_to_write=1):
            time.sleep(2)
        recovery = seconds_to_next_done(rig)

    assert recovery < BACK_SECONDS
    settle_once(rig, report, "29 NOREPLICAS", recovery)


def test_a_full_disk_is_waited_for(rig: Rig, report: Report) -> None:
    # Only with everysec: under "always" Redis ends itself at a failed write.
    rig.redis.config_set("appendfsync", "everysec")
    try:
        with rig.feeding():
            rig.wait_more_done(20)
            with file_size_limit(rig.server.process.pid, largest_open_file(rig.server.process.pid)):
                wait_for(lambda: refuses_with(rig, "MISCONF"), "Redis to refuse writes", 20)
                time.sleep(2)
            wait_for(lambda: not refuses_with(rig, "MISCONF"), "Redis to write again", 20)
            recovery = seconds_to_next_done(rig)
    finally:
        rig.redis.config_set("appendfsync", "always")

    assert recovery < BACK_SECONDS
    settle_once(rig, report, "29 MISCONF: the disk of the AOF is full", recovery)


@contextlib.contextmanager
def file_size_limit(pid: int, size: int) -> Iterator[None]:
    """No file of this process may grow beyond that: to it, the disk is full."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def largest_open_file(pid: int) -> int:
    files = psutil.Process(pid).open_files()
    return max(os.stat(file.path).st_size for file in files if file.path.endswith(".aof"))


def refuses_with(rig: Rig, word: str) -> bool:
    try:
        rig.redis.incr("bridge:probe")
    except redis.RedisError as error:
        return word in str(error)
    return False


def test_a_password_that_changes_under_way_is_survived(rig: Rig, report: Report) -> None:
    worker = rig.workers["own0"]
    with rig.feeding():
        rig.wait_more_done(20)
        rig.redis.config_set("requirepass", "another")
        with rig.server.client(password="another") as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            wait_for(lambda: "fetching stops" in worker.log, "the worker to notice", 20)
            admin.config_set("requirepass", "")
        recovery = seconds_to_next_done(rig)

    assert worker.process.is_alive
    assert recovery < BACK_SECONDS
    settle_once(rig, report, "34 NOAUTH: the password is another for a while", recovery)


# -- 24, 32, 33, 35: it forgets, freezes, cuts


@pytest.mark.short
def test_a_hundred_killed_connections_cost_nothing(rig: Rig, report: Report) -> None:
    open_files = {name: rig.open_files(name) for name in rig.workers}
    with rig.feeding(), rig.server.client() as admin:
        rig.wait_more_done(20)
        for _ in range(100):
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.03)
        recovery = seconds_to_next_done(rig)

    assert recovery < BACK_SECONDS
    settle_once(rig, report, "33 CLIENT KILL of all, 100 times", recovery)

    def closed_again() -> bool:
        return all(rig.open_files(name) <= before + 5 for name, before in open_files.items())

    wait_for(closed_again, "no files to be left open", 20)


@pytest.mark.short
def test_a_script_flush_at_any_moment_costs_nothing(rig: Rig, report: Report) -> None:
    with rig.feeding():
        for _ in range(100):
            rig.redis.script_flush()
            time.sleep(0.02)
        recovery = seconds_to_next_done(rig)

    settle_once(rig, report, "35 SCRIPT FLUSH, 100 times", recovery)


@pytest.mark.parametrize("kind", ["WRITE", "ALL"])
def test_a_paused_redis_is_waited_for(rig: Rig, report: Report, kind: str) -> None:
    with rig.feeding():
        rig.wait_more_done(20)
        rig.redis.execute_command("CLIENT", "PAUSE", LEASE_SECONDS * 2000, kind)
        time.sleep(LEASE_SECONDS * 2)
        recovery = seconds_to_next_done(rig)

    assert recovery < BACK_SECONDS
    settle_once(rig, report, f"32 CLIENT PAUSE {kind} for two leases", recovery)


def test_a_frozen_redis_is_waited_for(rig: Rig, report: Report) -> None:
    with rig.feeding():
        rig.wait_more_done(20)
        os.kill(rig.server.process.pid, signal.SIGSTOP)
        time.sleep(LEASE_SECONDS * 2)
        os.kill(rig.server.process.pid, signal.SIGCONT)
        recovery = seconds_to_next_done(rig)

    assert recovery < BACK_SECONDS
    settle_once(rig, report, "32 SIGSTOP of Redis for two leases", recovery)


def test_a_flushed_redis_costs_what_was_in_it_and_no_worker(rig: Rig, report: Report) -> None:
    rig.ended |= {worker.pid for worker in rig.workers.values()}
    with rig.feeding():
        rig.wait_more_done(40)
    rig.wait_quiet()
    with rig.feeding([("SleepJob", [1]), ("NativeSleepJob", [1])], rate=8):
        wait_for(lambda: rig.ledger.count("started"), "jobs to run", 20)
    rig.redis.flushall()
    rig.pushed_path.write_text("")  # an operator's act: what was in Redis is gone
    with rig.feeding():
        recovery = seconds_to_next_done(rig)
        rig.wait_more_done(40)

    rig.wait_quiet()
    account = rig.account()
    report.add("24 FLUSHALL while jobs run", account, recovery)
    assert all(worker.process.is_alive for worker in rig.workers.values())
    assert not account.lost
    assert recovery < BACK_SECONDS
    rig.assert_well()


# -- 22: it comes back with an older state


def test_a_redis_that_comes_back_with_an_older_state_loses_nothing_of_it(rig: Rig, report: Report) -> None:
    with rig.feeding([("NativeSleepJob", [0.5]), ("SleepJob", [0.5])], rate=100):
        wait_for(lambda: sum(rig.queued.values()) > 40, "a backlog", 40)
    files = rig.server.directory / "appendonlydir"
    older = rig.directory / "older"
    shutil.copytree(files, older)
    time.sleep(2)
    rig.server.process.kill()
    shutil.rmtree(files)
    shutil.move(older, files)
    rig.server.start()
    recovery = seconds_to_next_done(rig)

    rig.wait_quiet()
    account = rig.account()
    report.add("22 Redis comes back with a state 2 s old", account, recovery)
    assert not account.lost
    assert recovery < BACK_SECONDS
    rig.assert_counted()
    rig.assert_well()
