"""Sidecars that are killed, frozen, drained, full or away: an outage is no failure of a job."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.faults.report import Report
from tests.faults.rig import Rig, seconds_until
from tests.faults.settle import settle, settle_once
from tests.support.waiting import holds_for, wait_for

RUBY_JOBS = [("SleepJob", [0.3]), ("SleepJob", [0.05]), ("NativeSleepJob", [0.1])]


def spent_attempts(rig: Rig) -> tuple[int, int]:
    """Entries in retry, and stat:failed."""
    return rig.redis.zcard("retry"), rig.counters()[1]


def seconds_to_next_ruby_job(rig: Rig, limit: float = 40) -> float:
    now = time.time()

    def has_one() -> bool:
        return any(
            line["event"] == "started" and line["class"] == "SleepJob" and line["at"] > now
            for line in rig.ledger.lines
        )

    return seconds_until(has_one, "a Ruby job to be begun", limit)


def runs_ruby(rig: Rig, pids: list[int]) -> bool:
    return any(rig.is_running_in(pid) for pid in pids)


# -- 13: they die


@pytest.mark.short
def test_a_killed_puma_worker_costs_no_attempt(rig: Rig, report: Report) -> None:
    with rig.feeding(RUBY_JOBS):
        victim = rig.puma_workers("car0")[0]
        wait_for(lambda: rig.is_running_in(victim), "a job in the Puma worker", 40)
        rig.kill(victim)
        recovery = seconds_until(lambda: len(rig.puma_workers("car0")) == 2, "another Puma worker", 20)
        rig.wait_more_done(40)
        assert spent_attempts(rig) == (0, 0)

    settle(rig, report, "13 kill -9 of a Puma worker", recovery)


def test_a_killed_sidecar_costs_no_attempt(rig: Rig, report: Report) -> None:
    with rig.feeding(RUBY_JOBS):
        pumas = rig.puma_workers("car0")
        wait_for(lambda: runs_ruby(rig, pumas), "a job in the sidecar", 40)
        rig.kill(rig.sidecars["car0"].process.pid)
        recovery = seconds_to_next_ruby_job(rig)
        rig.wait_more_done(40)
        assert spent_attempts(rig) == (0, 0)

    settle(rig, report, "13 kill -9 of a sidecar's master", recovery)


# -- 14: they are away


@pytest.mark.short
def test_without_any_sidecar_ruby_jobs_wait_and_native_ones_run(rig: Rig, report: Report) -> None:
    with rig.feeding(RUBY_JOBS[:2], rate=20):
        rig.wait_more_done(20)
        for name in ("car0", "car1"):
            rig.sidecars[name].process.kill()
            rig.ended |= {line["pid"] for line in rig.ledger.lines if line["class"] == "SleepJob"}
        wait_for(lambda: sum(rig.queued.values()) > 10, "jobs to wait in their queues", 20)
        begun = rig.ledger.count("started")
        holds_for(lambda: rig.ledger.count("started") == begun, 1, "no Ruby job runs")
    waiting = sum(rig.queued.values())
    native = rig.push("NativeSleepJob", 0, queue="own")
    worker = rig.new_worker("native-only", env={"BRIDGE_QUEUES": "own"})
    rig.ledger.wait_for("done", native, seconds=30)
    worker.stop()
    assert spent_attempts(rig) == (0, 0)

    for name in ("car0", "car1"):
        rig.sidecars[name].start()
    recovery = seconds_to_next_ruby_job(rig)
    rig.wait_quiet()

    # What is promised. A quiet machine needs less than 2: a probe within 1 s, then one job goes first. Beside
    # other tests it was more: two sidecars that are just up and all that has waited compete for two cores.
    assert recovery < 10
    assert spent_attempts(rig) == (0, 0)
    settle(rig, report, "14 no sidecar answers", recovery, f"{waiting} jobs waited")


# -- 15, 16: they stand still


def test_a_frozen_puma_worker_finishes_what_it_had_and_nothing_runs_twice(rig: Rig, report: Report) -> None:
    with rig.feeding(RUBY_JOBS, rate=20):
        victim = rig.puma_workers("car0")[0]
        wait_for(lambda: rig.is_running_in(victim), "a job in the Puma worker", 40)
        os.kill(victim, signal.SIGSTOP)
        time.sleep(5)
        os.kill(victim, signal.SIGCONT)
        rig.wait_more_done(20)

    settle_once(rig, report, "15 SIGSTOP of a Puma worker, 5 s", None)
    assert rig.redis.zcard("dead") == 0


def test_a_puma_worker_frozen_beyond_every_probe_holds_up_only_what_it_had(rig: Rig, report: Report) -> None:
    with rig.feeding(RUBY_JOBS, rate=10):
        victim = rig.puma_workers("car0")[0]
        wait_for(lambda: rig.is_running_in(victim), "a job in the Puma worker", 40)
        with rig.frozen(victim):
            rig.wait_more_done(60)
            time.sleep(20)
        assert spent_attempts(rig) == (0, 0)

    settle(rig, report, "16 SIGSTOP of a Puma worker, beyond every probe", None)


# -- they drain, are full


def test_a_draining_sidecar_takes_nothing_and_costs_no_attempt(rig: Rig, report: Report) -> None:
    with rig.feeding(RUBY_JOBS):
        pumas = rig.puma_workers("car0")
        wait_for(lambda: runs_ruby(rig, pumas), "a job in the sidecar", 40)
        os.kill(rig.sidecars["car0"].process.pid, signal.SIGTSTP)
        wait_for(lambda: not runs_ruby(rig, pumas), "its jobs to end", 20)
        holds_for(lambda: not runs_ruby(rig, pumas), 2, "it takes nothing")
        assert spent_attempts(rig) == (0, 0)
        rig.sidecars.pop("car0").stop()

    settle_once(rig, report, "TSTP, then TERM of a sidecar", None)


def test_more_jobs_than_slots_cost_no_attempt(rig: Rig, report: Report) -> None:
    for name in ("car0", "car1"):
        rig.sidecars.pop(name).stop()
    rig.add_sidecar("car0", workers=2, threads=1)
    with rig.feeding([("SleepJob", [0.5])], rate=20):
        rig.wait_more_done(20)
        assert spent_attempts(rig) == (0, 0)
    rig.wait_quiet()

    assert spent_attempts(rig) == (0, 0)
    settle_once(rig, report, "more jobs than the sidecars have slots", None)
    rig.sidecars.pop("car0").stop()
