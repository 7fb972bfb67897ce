"""The options of Celery's pools: each works, or is refused or named at the start."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import CELERY, WorkerProcess, bridge_environment

MakeWorker = Callable[..., WorkerProcess]


@pytest.fixture
def make_worker(shared_stage: Stage) -> Iterator[MakeWorker]:
    shared_stage.reset()
    made: list[WorkerProcess] = []

    def make(*flags: str, **options: Any) -> WorkerProcess:
        made.append(
            shared_stage.make_worker("-n", "sized@%h", "-Q", "sized", *flags, **{"name": "sized", **options})
        )
        return made[-1]

    yield make
    for worker in made:
        worker.process.kill()


def celery(
    stage: Stage, *words: str, module: str = "tests.support.native_tasks"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CELERY), "-A", module, *words],
        cwd=ROOT,
        env=clean_environment() | bridge_environment(stage.redis_url, "unix:///nowhere.sock"),
        capture_output=True,
        text=True,
        timeout=40,
    )


def control(stage: Stage, *words: str) -> str:
    """What ``celery control`` says of this file's worker. The shared one would keep the slots that it got."""
    return celery(stage, "control", *words, "-d", f"sized@{os.uname().nodename}").stdout


def hold(stage: Stage, name: str, count: int) -> None:
    for number in range(count):
        stage.push_job({"class": name, "args": [f"{name}{number}"]}, "sized")


def started(stage: Stage) -> int:
    return stage.ledger.count("started") - stage.ledger.count("done")


@pytest.mark.parametrize("pool", ["default", "prefork"])
def test_autoscale_without_a_lower_bound_begins_with_one_slot(
    make_worker: MakeWorker, shared_stage: Stage, pool: str
) -> None:
    make_worker("--autoscale=2", *(() if pool == "default" else ("-P", pool)))
    hold(shared_stage, "NativeGateJob", 3)
    wait_until_equal(lambda: started(shared_stage), 2, "running jobs")


@pytest.mark.parametrize("pool", ["default", "prefork"])
@pytest.mark.parametrize("kind", ["NativeGateJob", "GateJob"])
def test_autoscale_grows_with_the_work_and_shrinks_when_it_is_gone(
    make_worker: MakeWorker, shared_stage: Stage, pool: str, kind: str
) -> None:
    """The own pool ended the worker 0.4 s after its start, at each start; four of them buried its jobs."""
    stage = shared_stage
    flags = () if pool == "default" else ("-P", pool)
    # Given a worker of one to four slots, and six jobs that take long
    worker = make_worker("--autoscale=4,1", *flags, env={"AUTOSCALE_KEEPALIVE": "1"})
    hold(stage, kind, 6)

    # Then it grows to four, and takes no job for which it has no slot
    wait_until_equal(lambda: started(stage), 4, "running jobs")
    assert stage.redis.llen("queue:sized") == 2
    # and when the work is done it shrinks to one
    stage.ledger.open_gate("all")
    wait_until_equal(lambda: stage.ledger.count("done"), 6, "jobs done")
    slots = lambda: stage.redis.hget(worker.identity, "concurrency")  # noqa: E731
    wait_until_equal(slots, b"1", "slots on the Busy page", 25)
    stage.ledger.clear()
    hold(stage, kind, 1)
    wait_until_equal(lambda: started(stage), 1, "a running job")
    stage.ledger.open_gate("all")
    stage.wait_idle()
    assert worker.terminate() == 0


@pytest.mark.parametrize("pool", ["default", "prefork", "gevent"])
def test_control_commands_grow_and_shrink_the_pool(
    make_worker: MakeWorker, shared_stage: Stage, pool: str
) -> None:
    """As Flower's buttons do."""
    stage = shared_stage
    flags = () if pool == "default" else ("-P", pool)
    worker = make_worker(*flags, concurrency=1)
    hold(stage, "NativeGateJob", 5)
    wait_until_equal(lambda: started(stage), 1, "running jobs")

    assert "pool will grow" in control(stage, "pool_grow", "2")
    wait_until_equal(lambda: started(stage), 3, "running jobs")

    stage.ledger.open_gate("all")
    wait_until_equal(lambda: stage.ledger.count("done"), 5, "jobs done")
    stage.ledger.clear()
    assert "pool will shrink" in control(stage, "pool_shrink", "2")
    hold(stage, "NativeGateJob", 3)
    wait_until_equal(lambda: started(stage), 1, "running jobs")
    holds_for(lambda: started(stage) == 1, 1, "one job at once")
    assert stage.redis.llen("queue:sized") == 2
    if pool != "gevent":
        assert "keeps at least one slot" in control(stage, "pool_shrink", "1")
    assert worker.terminate() == 0


def test_control_autoscale_changes_the_bounds(make_worker: MakeWorker, shared_stage: Stage) -> None:
    stage = shared_stage
    make_worker("--autoscale=2,1")
    hold(stage, "NativeGateJob", 5)
    wait_until_equal(lambda: started(stage), 2, "running jobs")

    assert "autoscale now max=4 min=3" in control(stage, "autoscale", "4", "3")

    wait_until_equal(lambda: started(stage), 4, "running jobs")
    assert "not supported with autoscale" in control(stage, "pool_grow")


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_of_a_fixed_size_says_so(make_worker: MakeWorker, shared_stage: Stage, pool: str) -> None:
    made = celery(shared_stage, "worker", "-P", pool, "--autoscale=8,2")
    assert made.returncode == 78
    assert f"--autoscale=8,2: the pool of -P {pool} has a fixed size. Leave -P away" in made.stderr
    make_worker("-P", pool)
    assert "has a fixed size: use the bridge's own pool" in control(shared_stage, "pool_grow")


def test_limits_of_pool_processes_are_named_where_there_are_none(make_worker: MakeWorker) -> None:
    """They were ignored without a word."""
    worker = make_worker("--max-tasks-per-child=5", "--max-memory-per-child=200000")
    for part in (
        "--max-tasks-per-child=5 has no effect in this pool, which has no processes of its own",
        "--max-memory-per-child=200000 has no effect in this pool",
        "use BRIDGE_MAX_MEMORY_MEGABYTES for this worker",
    ):
        assert part in worker.log


def test_pool_processes_that_are_spawned_are_refused(shared_stage: Stage) -> None:
    made = celery(shared_stage, "worker", "-P", "prefork", "--pool-start-method=spawn")
    assert made.returncode == 78
    assert "--pool-start-method=spawn: the pool processes of the bridge share locks" in made.stderr


def test_jobs_that_would_wait_in_a_worker_are_refused(shared_stage: Stage) -> None:
    """The setting was refused, the option was not: two slots held eight jobs."""
    made = celery(shared_stage, "worker", "-c", "2", "--prefetch-multiplier=4")
    assert made.returncode == 78
    assert "--prefetch-multiplier=4: jobs would leave their queue before a slot is free" in made.stderr


def test_a_worker_that_leaves_out_each_of_its_queues_is_refused(shared_stage: Stage) -> None:
    """It said that it takes jobs from nothing, and went on."""
    made = celery(shared_stage, "worker", "-Q", "sized", "-X", "sized")
    assert made.returncode == 78
    assert "-X leaves this worker no queue" in made.stderr


def test_the_start_method_leaves_the_pool_as_it_is(make_worker: MakeWorker) -> None:
    """``--pool-start-method`` begins as ``--pool`` does, and made the pool prefork."""
    worker = make_worker("--pool-start-method", "fork")
    assert "pool bridge" in worker.log
    assert "(prefork)" not in worker.process.unseen_log()


def test_a_module_that_patches_python_for_gevent_is_refused_in_another_pool(shared_stage: Stage) -> None:
    """The worker hung, also on TERM."""
    made = celery(shared_stage, "worker", module="tests.support.patched_tasks")
    assert made.returncode == 78
    assert "gevent has patched sockets and threads, and this pool does not run on gevent" in made.stderr
    assert "Start it with -P gevent" in made.stderr


def test_such_a_module_works_with_gevent_s_own_pool(make_worker: MakeWorker, shared_stage: Stage) -> None:
    worker = make_worker("-P", "gevent", module="tests.support.patched_tasks")
    jid = shared_stage.push_job({"class": "NativeEchoJob", "args": []}, "sized")
    wait_for(lambda: shared_stage.ledger.count("done", jid), "the job")
    assert worker.terminate() == 0
