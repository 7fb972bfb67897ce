"""How soon the jobs of a dead worker run again, with the lease of 15 s that is the default."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.probes import samples
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

LEASE_SECONDS = "15"
LIMIT_SECONDS = 20
KEEPER_LIMIT_SECONDS = 2

Maker = Callable[[str], WorkerProcess]


@pytest.fixture
def stage(bare_stage: Stage) -> Stage:
    """No worker but those that the test makes: another would recover jobs as well."""
    return bare_stage


@pytest.fixture
def make(stage: Stage) -> Iterator[Maker]:
    """Makes workers on a queue of their own."""
    made: list[WorkerProcess] = []

    def worker(name: str) -> WorkerProcess:
        env = {"BRIDGE_LEASE_SECONDS": LEASE_SECONDS}
        made.append(stage.make_worker("-Q", "dying", env=env, concurrency=2, name=name))
        return made[-1]

    yield worker
    stage.ledger.open_gate("all")
    for each in made:
        each.stop()


def kill_who_runs(stage: Stage, jid: str, *, keeper: bool) -> float:
    """Kill the worker that runs this native job, and its keeper if wanted. Gives the time."""
    pid = [line["pid"] for line in stage.ledger.lines if line["jid"] == jid][-1]
    if keeper:
        words = ["pgrep", "-P", str(pid), "-f", "bridge.sidekiq.lease.keeper_main"]
        found = subprocess.run(words, capture_output=True, text=True, check=True)
        os.kill(int(found.stdout), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    return time.time()


def running(stage: Stage) -> str:
    """The jid of a native job that has begun and does not end."""
    jid = stage.ruby.push("NativeGateJob", "never", queue="dying")
    stage.ledger.wait_for("started", jid)
    return jid


def second_start(stage: Stage, jid: str) -> float:
    wait_for(lambda: stage.ledger.events(jid).count("started") == 2, "the second run", 60)
    return float([line["at"] for line in stage.ledger.lines if line["jid"] == jid][1])


@pytest.mark.parametrize(
    ("keeper", "limit"),
    [(False, KEEPER_LIMIT_SECONDS), (True, LIMIT_SECONDS)],
    ids=["its keeper lives", "its keeper dies too"],
)
def test_a_dead_workers_job_runs_again_in_time_and_once(
    stage: Stage, make: Maker, keeper: bool, limit: float
) -> None:
    # Given three workers that compete for what dead ones leave
    for name in ("first", "second", "third"):
        make(name)
    jid = running(stage)

    # When the one that runs a job dies
    killed_at = kill_who_runs(stage, jid, keeper=keeper)

    # Then the job begins again within the limit, at one of the others
    took = second_start(stage, jid) - killed_at
    print(f"recovered after {took:.1f} s")
    assert took < limit
    assert stage.redis.get(f"bridge:recovered:{jid}") == b"1"


def test_where_no_worker_lives_a_job_runs_again_in_time_after_the_first_one_starts(
    stage: Stage, make: Maker
) -> None:
    make("first")
    jid = running(stage)
    started_at = kill_who_runs(stage, jid, keeper=True)

    make("second")

    took = second_start(stage, jid) - started_at
    print(f"recovered {took:.1f} s after the start")
    assert took < LIMIT_SECONDS


def test_the_third_death_around_a_job_buries_it_with_the_reason(stage: Stage, make: Maker) -> None:
    # Given a job around which three workers die, one after the other
    make("first")
    jid = running(stage)
    kill_who_runs(stage, jid, keeper=False)
    for count, name in ((2, "second"), (3, "third")):
        make(name)
        wait_until_equal(lambda: stage.ledger.events(jid).count("started"), count, f"run {count}", 30)
        kill_who_runs(stage, jid, keeper=False)

    # When another comes
    last = make("undertaker")

    # Then it does not run it but buries it, says why, and counts it
    entry = stage.only("dead")
    assert entry["error_class"] == "Bridge::PoisonPill"
    assert "as often in 72 hours" in entry["error_message"]
    assert stage.ledger.events(jid).count("started") == 3
    assert samples(last)["bridge_jobs_poisoned_total"] == 1
