"""Wall clocks that are set while jobs run, and processes that die or freeze meanwhile."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import SAFE
from tests.faults.report import Report
from tests.faults.rig import LEASE_SECONDS, Rig, seconds_until
from tests.faults.settle import settle, settle_once
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.wall_clock import WallClock

LONG_JOBS = 12
#: Two terms, and the time in which a reaper makes sure.
SETTLED_SECONDS = 3 * LEASE_SECONDS


class Clocks(Rig):
    """Three workers and Redis, each with a wall clock that can be set. Native jobs only: no sidecar."""

    def __init__(self, server: RedisServer, root: RubyRoot, redis_clock: WallClock) -> None:
        super().__init__(server, root)
        self.redis_clock = redis_clock
        self.clocks = [WallClock(self.directory, f"clock-{number}") for number in range(3)]
        for number, clock in enumerate(self.clocks):
            flags = ("-P", "prefork") if number == 2 else ()
            self.add_worker(f"own{number}", *flags, env=clock.env, concurrency=4)

    def set(self, which: str, seconds: float) -> None:
        """``redis``, ``worker`` (the first), or ``all``."""
        if which in ("redis", "all"):
            self.redis_clock.set(seconds)
        for clock in {"redis": [], "worker": self.clocks[:1], "all": self.clocks}[which]:
            clock.set(seconds)

    def wait_reaped(self, identity: str) -> None:
        wait_for(lambda: not self.is_holding(identity), "its jobs to be given back", 60)

    def start_long_jobs(self, seconds: float) -> None:
        """All slots of all workers run one."""
        for _ in range(LONG_JOBS):
            self.push("NativeSleepJob", seconds)
        wait_until_equal(lambda: self.ledger.count("started"), LONG_JOBS, "all slots to be busy", 30)


@pytest.fixture
def clocks(ruby_root: RubyRoot) -> Iterator[Clocks]:
    with tempfile.TemporaryDirectory(prefix="sb-set-") as directory:
        clock = WallClock(Path(directory))
        server = RedisServer(Path(directory), *SAFE, wrapper=clock.wrapper)
        rig = Clocks(server, ruby_root, clock)
        try:
            yield rig
        finally:
            rig.stop()
            server.stop()


@pytest.mark.parametrize(
    ("which", "step"),
    [
        pytest.param("redis", 20.0, marks=pytest.mark.short),
        ("redis", -20.0),
        ("redis", 3600.0),
        ("redis", -3600.0),
        ("worker", 1800.0),
        ("worker", -1800.0),
        ("all", 20.0),
        pytest.param("all", -20.0, marks=pytest.mark.short),
        ("all", 86400.0),
    ],
)
def test_a_clock_that_is_set_runs_nothing_twice(
    clocks: Clocks, report: Report, which: str, step: float
) -> None:
    """15 of 15 running jobs ran twice after a step of 20 s, and no process had died."""
    holds_for(lambda: clocks.redis.ping(), LEASE_SECONDS, "the workers settle in")
    clocks.start_long_jobs(SETTLED_SECONDS)
    clocks.set(which, step)

    identities = {worker.identity for worker in clocks.workers.values()}
    settle_once(clocks, report, f"7 the clock of {which} is set by {step:+g} s", None)
    assert clocks.redis.exists(*identities) == 3
    assert not any("FENCED" in worker.log for worker in clocks.workers.values())


@pytest.mark.parametrize("step", [pytest.param(-1800.0, marks=pytest.mark.short), 1800.0])
def test_who_dies_around_a_step_is_found_all_the_same(clocks: Clocks, report: Report, step: float) -> None:
    """The clock went back half an hour, and the jobs of a dead machine were in flight for that long."""
    holds_for(lambda: clocks.redis.ping(), LEASE_SECONDS, "the workers settle in")
    clocks.start_long_jobs(2)
    dead = clocks.workers["own0"]
    identity = dead.identity
    clocks.kill(clocks.keeper("own0"))
    clocks.kill(dead.pid)
    del clocks.workers["own0"]
    clocks.set("redis", step)
    recovery = seconds_until(
        lambda: not clocks.is_holding(identity),
        "the jobs of the dead to be given back",
        2 * SETTLED_SECONDS + 10,
    )
    settle(clocks, report, f"7 a machine dies, the clock of Redis is set by {step:+g} s", recovery)


@pytest.mark.parametrize("name", ["own0", "own2"], ids=["own pool", "prefork"])
def test_a_frozen_container_begins_nothing_that_others_have_run(
    clocks: Clocks, report: Report, name: str
) -> None:
    """It logged FENCED, and began 9 of 10 all the same."""
    worker = clocks.workers[name]
    pids = [worker.pid, clocks.keeper(name), *(clocks.pool_children(name) if name == "own2" else [])]
    for _ in range(3):
        with clocks.feeding([("NativeSleepJob", [0.5])], rate=20), contextlib.ExitStack() as still:
            # Its name may be another than before the last freeze, once it has said so.
            wait_for(lambda: clocks.is_holding(worker.identity), "jobs in hand", 30)
            identity = worker.identity
            for pid in pids:
                still.enter_context(clocks.frozen(pid))
            clocks.wait_more_done(30)
            clocks.wait_reaped(identity)
            clocks.wait_more_done(30)
            thawed_at = time.time()
            done = {line["jid"] for line in clocks.ledger.lines if line["event"] == "done"}
        clocks.wait_quiet()
        late = [
            line["jid"]
            for line in clocks.ledger.lines
            if line.get("pid") in pids and line["event"] == "started" and line["at"] > thawed_at
        ]
        assert not set(late) & done
    settle(clocks, report, f"5 SIGSTOP of all processes of {name}, three times", None)
