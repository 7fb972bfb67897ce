"""A native job forks: its child owns neither the worker's jobs nor its signals."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.support.worker_process import WorkerProcess


@pytest.fixture(params=["default", "threads", "gevent", "solo", "prefork"])
def worker(request: pytest.FixtureRequest, shared_stage: Stage) -> Iterator[WorkerProcess]:
    shared_stage.reset()
    flags = () if request.param == "default" else ("-P", request.param)
    module, name = "tests.support.end_tasks", f"forks-{request.param}"
    worker = shared_stage.make_worker("-Q", "forks", *flags, concurrency=2, module=module, name=name)
    yield worker
    worker.process.kill()


@pytest.mark.parametrize(
    ("name", "events"), [("NativeChildJob", ["child"]), ("NativePoolJob", ["late", "done"])]
)
def test_a_child_that_gets_term_leaves_the_worker_its_jobs(
    shared_stage: Stage, worker: WorkerProcess, name: str, events: list[str]
) -> None:
    """The child had Celery's handler: it gave back its parent's jobs and ended its lease; both ran twice."""
    pool = worker.process.name.removeprefix("forks-")
    if pool == "prefork":
        pytest.skip(
            "a pool process is a daemon: Python forbids it children of multiprocessing, in any Celery"
        )
    if (pool, name) == ("gevent", "NativePoolJob"):
        pytest.skip(
            "multiprocessing.Pool waits for a semaphore in C, which holds up every greenlet, in any Celery"
        )
    stage = shared_stage
    # Given a worker, one of whose jobs starts a process and ends it by TERM
    jid = stage.push_job({"class": name, "args": []}, "forks")

    # Then the child dies of the signal at once, the job runs once, and the worker goes on
    stage.wait_counters(1, 0)
    assert stage.ledger.events(jid) == events
    if name == "NativeChildJob":
        assert stage.ledger.args(jid, "child") == [-signal.SIGTERM]
    next_jid = stage.push_job({"class": "NativeEchoJob", "args": []}, "forks")
    stage.ledger.wait_for("done", next_jid)
    log = worker.process.unseen_log()  # of this worker: the one before it had the same file
    assert "shutdown" not in log
    assert "FENCED" not in log
    assert worker.terminate() == 0


@pytest.mark.parametrize(("end", "status"), [("exit", 3), ("raise", 1), ("return", 0), ("push", 0)])
def test_a_child_that_leaves_the_task_s_code_ends(
    shared_stage: Stage, worker: WorkerProcess, end: str, status: int
) -> None:
    """It went on as a second worker: settled its parent's job, and waited in its thread without end."""
    stage = shared_stage
    jid = stage.push_job({"class": "NativeForkJob", "args": [end]}, "forks")

    stage.ledger.wait_for("child", jid)
    assert stage.ledger.args(jid, "child") == [status]
    if end == "push":
        wait_for(lambda: stage.redis.llen("queue:forked") == 1, "the child's push")
    stage.wait_counters(1, 0)
    assert not stage.redis.exists("retry", "dead")
    assert worker.terminate() == 0
