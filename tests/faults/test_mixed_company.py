"""Workers of two releases, workers that look alike, and a Redis that throws jobs away."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.report import Report
from tests.faults.rig import Rig, seconds_until
from tests.faults.settle import settle
from tests.support.processes import ROOT
from tests.support.waiting import holds_for, wait_for
from tests.support.worker_process import WorkerProcess

RECOVERY_SECONDS = 20
BACK_SECONDS = 10


def kill_all_own(rig: Rig) -> None:
    for name in ("own0", "own1", "prefork"):
        rig.workers.pop(name).terminate()


# -- 49: two releases side by side


def another_release(place: Path) -> Path:
    """The package with other scripts: none has the digest that Redis knows from this one."""
    shutil.copytree(ROOT / "bridge", place / "bridge", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "tests").symlink_to(ROOT / "tests")
    for script in (place / "bridge/sidekiq/store/lua").glob("*.lua"):
        script.write_text(f"{script.read_text()}\n-- of another release\n")
    return place


def digest_of_claim(place: Path) -> str:
    code = "from bridge.sidekiq.store import lua; print(lua.load('claim').sha.decode(), end='')"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, check=True, text=True
    ).stdout


def test_workers_of_two_releases_share_a_redis_and_take_over_from_each_other(
    rig: Rig, report: Report, tmp_path: Path
) -> None:
    place = another_release(tmp_path)
    for name in ("own1", "prefork"):
        rig.workers.pop(name).terminate()
    newer = rig.new_worker("newer", env={"PYTHONPATH": str(place)}, cwd=place)
    try:
        with rig.feeding():
            # When one of each is killed while both run jobs, the other takes its jobs over
            rig.workers["newer"] = newer
            rig.wait_for_jobs_in_hand("newer")
            assert rig.redis.script_exists(digest_of_claim(place), digest_of_claim(ROOT)) == [True, True]
            identity = newer.identity
            rig.kill(newer.pid)
            recovery = seconds_until(lambda: not rig.is_holding(identity), "its jobs to be given back", 20)
            newer.process.kill()
            newer = rig.new_worker("newer", env={"PYTHONPATH": str(place)}, cwd=place)
            rig.wait_for_jobs_in_hand("own0")
            older = rig.workers["own0"].identity
            rig.kill(rig.workers.pop("own0").pid)
            seconds_until(lambda: not rig.is_holding(older), "the older one's jobs", 20)
            rig.wait_more_done(30)
        settle(rig, report, "49 workers with other scripts side by side, one of each killed", recovery)
    finally:
        rig.workers.pop("newer", None)
        newer.stop()


# -- containers: the same host name and the same process number

CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def twins(rig: Rig) -> Iterator[tuple[WorkerProcess, WorkerProcess]]:
    if subprocess.run([*CONTAINER, "true"], capture_output=True).returncode:
        pytest.skip("this user may not make process namespaces")
    kill_all_own(rig)
    env = {"BRIDGE_LEASE_SECONDS": "15"}
    made = [rig.new_worker(f"twin{number}", env=env, wrapper=CONTAINER) for number in (1, 2)]
    yield made[0], made[1]
    for worker in made:
        worker.process.kill()


def test_workers_with_one_pid_in_two_containers_are_told_apart(
    rig: Rig, report: Report, twins: tuple[WorkerProcess, WorkerProcess]
) -> None:
    first, second = twins
    rig.ended.add(1)  # what the first one runs will run again; the ledger knows both by this number
    # Rows of workers that a test before has killed may still be there.
    named = {name.decode() for name in rig.redis.smembers("processes")}
    identities = {name for name in named if name.split(":")[1] == "1"}
    assert len(identities) == 2
    assert len({name.rsplit(":", 1)[0] for name in identities}) == 1

    # Given jobs in the hands of both, which tell by their lease's number which is which
    with rig.feeding([("NativeSleepJob", [0.5]), ("SleepJob", [0.5])], rate=20):
        wait_for(lambda: all(rig.is_holding(name) for name in identities), "jobs in both", 30)

        # When one container goes, and its keeper with it
        first.process.kill()
        recovery = seconds_until(
            lambda: len(rig.redis.zrange("bridge:lease", 0, -1)) == 1, "its jobs to be given back", 30
        )
        (survivor,) = (name.decode() for name in rig.redis.zrange("bridge:lease", 0, -1))

        # Then its jobs are taken over in time, and the other one is never taken for dead
        assert recovery <= RECOVERY_SECONDS
        assert survivor in identities
        holds_for(lambda: rig.redis.zscore("bridge:lease", survivor) is not None, 2, "it lives")
        assert "FENCED" not in second.log
        rig.wait_more_done(20)

    settle(rig, report, "containers: two workers with one host name and pid, one killed", recovery)


# -- 30: a Redis that evicts


def test_a_redis_that_evicts_is_named_and_costs_what_it_drops_and_no_worker(rig: Rig, report: Report) -> None:
    with rig.feeding():
        rig.wait_more_done(20)
        rig.redis.config_set("maxmemory-policy", "allkeys-random")
        rig.redis.config_set("maxmemory", "1")
        try:
            # A new worker says what it found. It may find no place in Redis: nothing stays there.
            wait_for(lambda: rig.redis.info("stats")["evicted_keys"] > 20, "keys to be dropped", 20)
        finally:
            rig.redis.config_set("maxmemory", "0")
        named = rig.new_worker("named")
        rig.redis.config_set("maxmemory-policy", "noeviction")
    rig.pushed_path.write_text("")  # what was dropped is gone, and nobody can say what that was
    assert "maxmemory-policy allkeys-random" in named.log
    named.stop()

    before = rig.done
    with rig.feeding():
        recovery = seconds_until(lambda: rig.done > before, "jobs to run", 40)
        rig.wait_more_done(40)
    rig.wait_quiet()
    account = rig.account()
    report.add("30 Redis evicts keys, then does not any more", account, recovery)
    assert all(worker.process.is_alive for worker in rig.workers.values())
    assert not account.lost
    assert recovery < BACK_SECONDS
    rig.assert_well()
