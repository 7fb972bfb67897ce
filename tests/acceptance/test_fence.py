"""No job is started a second time while its first run, or the record of it, can still be found."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.support.probes import samples
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import SidecarProcess
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

pytestmark = pytest.mark.skipif(shutil.which("ruby") is None, reason="needs Ruby")

JOBS = 6
Maker = Callable[..., WorkerProcess]


@pytest.fixture
def fleet(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """Two sidecars of two Puma workers each, on one Redis."""
    stage = Stage(redis_server, ruby_root, database=3)
    stage.redis.flushdb()
    places = [ruby_root.make_directory() for _ in range(2)]
    ledger = {"TEST_LEDGER": str(stage.place.path / "ledger")}
    stage.sidecars = [  # type: ignore[attr-defined]
        SidecarProcess(ruby_root, place, stage.redis_url, threads=2, arguments=("--workers", "2"), env=ledger)
        for place in places
    ]
    yield stage
    stage.stop()
    for part in stage.sidecars:  # type: ignore[attr-defined]
        part.stop()
    for place in places:
        place.remove()


@pytest.fixture
def make(fleet: Stage) -> Iterator[Maker]:
    """Makes workers that know both sidecars."""
    made: list[WorkerProcess] = []

    def worker(name: str, *flags: str) -> WorkerProcess:
        urls = ",".join(part.url for part in fleet.sidecars)  # type: ignore[attr-defined]
        env = {"BRIDGE_SIDECAR_URL": urls}
        made.append(fleet.make_worker(*flags, env=env, concurrency=JOBS, name=name))
        return made[-1]

    yield worker
    fleet.ledger.open_gate("all")
    for each in made:
        each.stop()


def test_a_job_that_stops_by_itself_does_not_run_for_ever(stage: Stage) -> None:
    jid = stage.ruby.push("StoppingJob")

    entry = stage.only("dead")

    assert entry["jid"] == jid
    assert entry["error_class"] == "Bridge::PoisonPill"
    assert [event for event in stage.ledger.events(jid) if event != "died"] == ["started"] * 3
    assert stage.counters() == (0, 0)


@pytest.mark.parametrize("flags", [(), ("-P", "threads")], ids=["default", "threads"])
def test_jobs_of_a_worker_that_died_are_joined_wherever_they_run(
    fleet: Stage, make: Maker, flags: tuple[str, ...]
) -> None:
    stage = fleet

    # Given jobs that run in all Puma workers of both sidecars
    first = make("first", *flags)
    jids = [stage.ruby.push("GateJob", "late") for _ in range(JOBS)]
    wait_until_equal(lambda: stage.ledger.count("started"), JOBS, "running jobs")

    # When their worker is killed, and another takes them over while they run
    other = make("other", *flags)
    os.kill(first.pid, signal.SIGKILL)
    wait_until_equal(
        lambda: samples(other)["bridge_jobs_recovered_total"],
        JOBS,
        "recovered jobs",
        20,
    )
    wait_for(lambda: not stage.redis.llen("queue:default"), "all of them claimed again")
    holds_for(lambda: stage.ledger.count("started") == JOBS, 3, "no job starts a second time")

    # Then each ends once, and is settled once
    stage.ledger.open_gate("late")
    for jid in jids:
        stage.ledger.wait_for("done", jid)
    stage.wait_counters(JOBS, 0)
    stage.wait_idle()
    assert stage.ledger.count("started") == stage.ledger.count("done") == JOBS
    assert not stage.redis.exists("bridge:recovering", "retry", "dead")


def test_the_record_answers_for_jobs_that_ended_while_no_worker_lived(fleet: Stage, make: Maker) -> None:
    stage = fleet
    first = make("first")
    jids = [stage.ruby.push("GateJob", "late") for _ in range(JOBS)]
    wait_until_equal(lambda: stage.ledger.count("started"), JOBS, "running jobs")

    # Given that they end after their worker was killed
    os.kill(first.pid, signal.SIGKILL)
    stage.ledger.open_gate("late")
    for jid in jids:
        stage.ledger.wait_for("done", jid)

    # When a worker starts
    make("other")

    # Then it settles them without a second run
    wait_until_equal(stage.counters, (JOBS, 0), "processed and failed", 40)
    stage.wait_idle()
    assert stage.ledger.count("started") == stage.ledger.count("done") == JOBS
