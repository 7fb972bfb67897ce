"""Sidecars and workers that are told to end, in every order. Only a run that may have begun counts."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import SAFE, build
from tests.faults.report import Report
from tests.faults.rig import Rig
from tests.faults.settle import settle
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import SidecarProcess
from tests.support.waiting import wait_for

#: Longer than a sidecar waits, so that its end interrupts them.
LONG_SECONDS = 8
LONG_JOBS = 10

TERM, TSTP, KILL = signal.SIGTERM, signal.SIGTSTP, signal.SIGKILL


class DirectRig(Rig):
    """Workers reach the sidecars without a proxy: it would accept for one that is gone."""

    def sidecar_url(self, sidecar: SidecarProcess) -> str:
        return sidecar.url


@pytest.fixture(scope="module")
def direct(ruby_root: RubyRoot) -> Iterator[DirectRig]:
    with tempfile.TemporaryDirectory(prefix="sb-drain-") as directory:
        server = RedisServer(Path(directory), *SAFE)
        rig = DirectRig(server, ruby_root)
        try:
            build(rig)
            yield rig
        finally:
            rig.stop()
            server.stop()


@pytest.fixture
def rig(direct: DirectRig) -> DirectRig:
    build(direct)
    direct.clean()
    return direct


def assert_counted_only_where_begun(rig: Rig) -> None:
    """A job was found in dead hands at most as often as a process was killed that had begun it."""
    prefix = b"bridge:recovered:"
    counted = {
        key.removeprefix(prefix).decode(): int(rig.redis.get(key)) for key in rig.redis.keys(prefix + b"*")
    }
    begun = Counter(
        line["jid"]
        for line in rig.ledger.lines
        if line["event"] == "started" and line["pid"] in rig.killed_at
    )
    too_often = {jid: (count, begun[jid]) for jid, count in counted.items() if count > begun[jid]}
    assert not too_often, f"counted more often than begun in a process that was killed: {too_often}"
    assert rig.redis.zcard("dead") == 0


def run_long_jobs(rig: Rig) -> None:
    """Given: long Ruby jobs run in each sidecar."""
    for _ in range(LONG_JOBS):
        rig.push("SleepJob", LONG_SECONDS)
    pumas = [pid for name in rig.sidecars for pid in rig.puma_workers(name)]
    wait_for(lambda: sum(len(rig.running_in(pid)) for pid in pumas) >= LONG_JOBS, "the long jobs to run", 30)


def end_sidecar(rig: Rig, name: str, *orders: signal.Signals) -> None:
    """Send these to a sidecar, each as soon as it has acted on the one before, and start another."""
    sidecar = rig.sidecars[name]
    rig.may_interrupt_ruby_jobs()
    for order in orders:
        if order is KILL:
            children = rig.puma_workers(name)
            for pid in (sidecar.process.pid, *children):
                rig.kill(pid)
        else:
            sidecar.process.signal(order)
            wait_for(lambda: not sidecar.is_ready(), "it to drain", 10)
    sidecar.process.wait(40)
    del rig.sidecars[name]
    rig.add_sidecar(name)


@pytest.mark.parametrize(
    "orders",
    [
        pytest.param((TERM,), marks=pytest.mark.short),
        (TERM, TERM),
        (TSTP, TERM),
        (TERM, TERM, KILL),
        (TSTP, KILL),
        (KILL,),
    ],
    ids=lambda orders: "-".join(order.name for order in orders),
)
@pytest.mark.timeout(300)
def test_the_end_of_a_sidecar_counts_against_no_job_that_it_had_not_begun(
    rig: Rig, report: Report, orders: tuple[signal.Signals, ...]
) -> None:
    """One TERM counted against all jobs that ran: they were sent again, into streams that closed."""
    # A job that is sent in the very moment of a kill may have begun, as far as its worker can tell.
    with contextlib.nullcontext() if KILL in orders else rig.feeding():
        run_long_jobs(rig)
        end_sidecar(rig, "car0", *orders)
        rig.wait_more_done(5)

    settle(rig, report, f"56 a sidecar gets {', '.join(order.name for order in orders)}", None)
    assert_counted_only_where_begun(rig)
    if KILL not in orders:
        assert not rig.redis.keys("bridge:recovered:*")


@pytest.mark.timeout(300)
def test_all_sidecars_that_end_at_once_and_then_are_killed_twice_bury_nothing(
    rig: Rig, report: Report
) -> None:
    with rig.feeding(rate=20):
        run_long_jobs(rig)
        rig.may_interrupt_ruby_jobs()
        for name in list(rig.sidecars):
            rig.sidecars[name].process.signal(TERM)
        for name in list(rig.sidecars):
            rig.sidecars.pop(name).process.wait(40)
            rig.add_sidecar(name)
        rig.wait_more_done(20)
    assert not rig.redis.keys("bridge:recovered:*")
    # Each job may run in both of them: a third time would bury it rightly.
    run_long_jobs(rig)
    for name in list(rig.sidecars):
        end_sidecar(rig, name, KILL)

    settle(rig, report, "56 all sidecars: TERM, then one KILL each", None)
    assert_counted_only_where_begun(rig)


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
@pytest.mark.timeout(300)
def test_the_end_of_a_worker_counts_against_no_job(rig: Rig, report: Report, order: signal.Signals) -> None:
    with rig.feeding(rate=20):
        run_long_jobs(rig)
        rig.may_interrupt_ruby_jobs()
        for name in ("own0", "own1", "prefork"):
            rig.ended |= {rig.workers[name].pid, *rig.pool_children(name)}
            worker = rig.workers.pop(name)
            worker.process.signal(order)
            worker.process.wait(40)
            rig.add_worker(name, *(("-P", "prefork") if name == "prefork" else ()), concurrency=8)
        rig.wait_more_done(20)

    settle(rig, report, f"56 each worker gets {order.name}", None)
    assert not rig.redis.keys("bridge:recovered:*")
    assert rig.redis.zcard("dead") == 0
