"""How a worker ends, under each pool: each job is given back, no attempt is spent, and no key stays."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.support.worker_process import WorkerProcess

POOLS = ["default", "threads", "prefork", "gevent", "solo"]
TERM, INT, QUIT = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT
REMAPPED = {"REMAP_SIGTERM": "SIGQUIT"}
#: A running job may end by itself in this time after TERM. The tests of QUIT end long before.
PATIENCE = {"BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": "40"}


MakeWorker = Callable[..., WorkerProcess]


@pytest.fixture
def make_worker(shared_stage: Stage) -> Iterator[MakeWorker]:
    """Workers of any pool on the queue ``ends``. A test that fails leaves none behind."""
    made: list[WorkerProcess] = []

    def make(pool: str, *flags: Any, **options: Any) -> WorkerProcess:
        flags = flags if pool == "default" else ("-P", pool, *flags)
        options = {"concurrency": 2, "name": f"ends-{pool}", **options}
        made.append(shared_stage.make_worker("-Q", "ends", *flags, **options))
        return made[-1]

    yield make
    for worker in made:
        worker.process.kill()


def hold(stage: Stage, *names: str, **fields: object) -> list[bytes]:
    """Jobs that run until they are told to end; gives their payloads, the next to run first."""
    payloads = []
    for name in names:
        job = {"class": name, "args": [name], "jid": f"held-{name}", "queue": "ends", **fields}
        payloads.append(json.dumps(job).encode())
        stage.push_raw(payloads[-1], "ends")
        stage.ledger.wait_for("started", f"held-{name}")
    return payloads


def assert_given_back(stage: Stage, payloads: list[bytes], identity: str) -> None:
    assert stage.redis.lrange("queue:ends", 0, -1)[::-1] == payloads
    assert stage.counters() == (0, 0)
    assert not stage.redis.exists("retry", "dead")
    assert not list(stage.redis.scan_iter("bridge:recovered:*"))
    assert not stage.redis.exists(f"bridge:inflight:{identity}", f"{identity}:work", identity)
    census.assert_keys_clean(stage.redis)


@pytest.fixture
def clean(shared_stage: Stage) -> Stage:
    shared_stage.reset()
    return shared_stage


@pytest.mark.parametrize(
    ("end", "env"),
    [
        pytest.param([QUIT], {}, id="QUIT"),
        pytest.param([INT, INT], {}, id="INT-INT"),
        pytest.param([TERM, QUIT], {}, id="TERM-QUIT"),
        pytest.param([TERM], REMAPPED, id="REMAP"),
    ],
)
@pytest.mark.parametrize("pool", POOLS)
def test_a_cold_end_gives_a_running_job_back_at_once(
    clean: Stage, make_worker: MakeWorker, pool: str, end: list[signal.Signals], env: dict[str, str]
) -> None:
    """Celery's handler waited for the pool: a job failed as SystemExit, or the process lived on.

    ``retry: false`` was gone, ``retry: 0`` dead; the own pool said NotImplementedError and took nothing more.
    """
    stage = clean
    # Given a job that would be lost or buried if this end counted as a failure
    worker = make_worker(pool, env={**PATIENCE, **env})
    identity = worker.identity
    names = ["NativeGateJob"] if pool == "solo" else ["NativeGateJob", "GateJob"]
    payloads = hold(stage, *names, retry=0)

    # When the worker is told to end at once
    for number in end:
        before = worker.log
        worker.process.signal(number)
        # Its last line of this: two signals in one moment are one to the kernel.
        wait_for(
            lambda before=before: " shutdown" in worker.log[len(before) :] or not worker.process.is_alive,
            "the worker to notice",
        )

    # Then it ends with status 0, long before the job would, and the job is back as it was
    assert worker.process.wait(15) == 0
    assert_given_back(stage, payloads, identity)


@pytest.mark.parametrize("pool", ["default", "prefork"])
def test_a_term_for_every_process_of_a_worker_spends_no_attempt(
    clean: Stage, make_worker: MakeWorker, pool: str
) -> None:
    """A supervisor that signals the group: the pool process ended its job as SystemExit, an attempt spent."""
    stage = clean
    worker = make_worker(pool)
    identity = worker.identity
    payloads = hold(stage, "NativeGateJob", retry=0)

    os.killpg(worker.pid, TERM)

    assert worker.process.wait(15) == 0
    assert_given_back(stage, payloads, identity)


def test_a_pool_process_that_alone_gets_term_spends_no_attempt(clean: Stage, make_worker: MakeWorker) -> None:
    """How far the job came is unknown, as after a kill: it runs again, and the third time it is buried."""
    stage = clean
    worker = make_worker("prefork")
    hold(stage, "NativeGateJob", retry=0)

    os.kill(stage.ledger.lines[-1]["pid"], TERM)

    stage.ledger.wait_for("started", "held-NativeGateJob", times=2)
    assert stage.redis.get("bridge:recovered:held-NativeGateJob") == b"1"
    stage.ledger.open_gate("all")
    stage.wait_counters(1, 0)
    assert worker.terminate() == 0


@pytest.mark.parametrize("names", [("stderr",), ("stdout",), ("stdout", "stderr")], ids="-".join)
@pytest.mark.parametrize("pool", ["default", "prefork", "solo"])
def test_a_job_that_closes_the_standard_streams_does_not_keep_the_worker_from_its_end(
    clean: Stage, make_worker: MakeWorker, pool: str, names: tuple[str, ...]
) -> None:
    """Exit 1, and the worker's row stayed: each line to a closed stream raised where it was logged."""
    stage = clean
    worker = make_worker(pool, module="tests.support.end_tasks")
    identity = worker.identity
    jid = stage.push_job({"class": "NativeCloseJob", "args": names}, "ends")
    stage.ledger.wait_for("done", jid)
    jid = stage.push_job({"class": "NativeFailJob", "args": [], "retry": 0}, "ends")
    stage.ledger.wait_for("failed", jid)
    payloads = hold(stage, "NativeGateJob", retry=0)

    assert worker.terminate() == 0

    assert stage.redis.lrange("queue:ends", 0, -1) == payloads
    assert not stage.redis.exists(f"bridge:inflight:{identity}", identity)
    assert "giving back 1 jobs" in worker.process.unseen_log()  # the log still works
    assert stage.redis.zcard("dead") == 1


def stop_from_the_web_ui(stage: Stage, worker: WorkerProcess) -> None:
    stage.redis.lpush(f"{worker.identity}-signals", "TERM")


def grow_above_the_ceiling(stage: Stage, worker: WorkerProcess) -> None:
    stage.push_job({"class": "NativeHoardJob", "args": [400]}, "ends")


def kill_by_a_long_limit(stage: Stage, worker: WorkerProcess) -> None:
    """One of two slots is lost to a job that does not end: more than a quarter, so the worker gives up."""
    stage.push_job({"class": "NativeDeafJob", "args": [], "time_limit": 1, "retry": 3}, "ends")


@pytest.mark.parametrize("pool", POOLS)
def test_stop_from_the_web_ui_gives_running_jobs_back(
    clean: Stage, make_worker: MakeWorker, pool: str
) -> None:
    stage = clean
    worker = make_worker(pool)
    identity = worker.identity
    payloads = hold(stage, "NativeGateJob", retry=0)

    stop_from_the_web_ui(stage, worker)

    assert worker.process.wait(30) == 0
    assert_given_back(stage, payloads, identity)


def test_the_memory_ceiling_gives_running_jobs_back(clean: Stage, make_worker: MakeWorker) -> None:
    stage = clean
    worker = make_worker("default", env={"BRIDGE_MAX_MEMORY_MEGABYTES": "300"})
    payloads = hold(stage, "NativeGateJob", retry=0)

    grow_above_the_ceiling(stage, worker)

    assert worker.process.wait(40) == 0
    assert stage.redis.lrange("queue:ends", 0, -1) == payloads
    assert not stage.redis.exists("retry", "dead")
    assert not list(stage.redis.scan_iter("bridge:recovered:*"))


def test_a_worker_that_gives_up_gives_running_jobs_back(clean: Stage, make_worker: MakeWorker) -> None:
    """Exit 70: the job whose time was up is a failure, the others spend no attempt."""
    stage = clean
    worker = make_worker("default", module="tests.support.end_tasks")
    payloads = hold(stage, "NativeGateJob", retry=0)

    kill_by_a_long_limit(stage, worker)

    assert worker.process.wait(60) == 70
    assert stage.redis.lrange("queue:ends", 0, -1) == payloads
    assert stage.redis.zcard("retry") == 1
    assert not list(stage.redis.scan_iter("bridge:recovered:*"))


@pytest.mark.parametrize("end", [TERM, signal.SIGHUP], ids=["TERM", "HUP"])
@pytest.mark.parametrize(
    ("pool", "kind"),
    [
        ("default", "thread"),
        ("default", "process"),
        ("threads", "thread"),
        ("prefork", "thread"),
        ("gevent", "process"),
        ("solo", "process"),
    ],
)
def test_what_a_job_has_left_behind_does_not_keep_the_worker_from_its_end(
    clean: Stage, make_worker: MakeWorker, pool: str, kind: str, end: signal.Signals
) -> None:
    """Python waits for threads and processes without a limit: TERM and HUP had no end under five pools."""
    stage = clean
    pidfile = stage.directory / "worker.pid"
    worker = make_worker(pool, "--pidfile", pidfile, module="tests.support.end_tasks")
    identity = worker.identity
    jid = stage.push_job({"class": "NativeLeaveJob", "args": [kind]}, "ends")
    stage.ledger.wait_for("done", jid)
    stage.wait_counters(1, 0)

    worker.process.signal(end)

    if end == TERM:
        assert worker.process.wait(20) == 0
    else:
        wait_for(lambda: worker.identity not in ("", identity), "the worker to start again", 30)
        assert worker.terminate() == 0
    assert not stage.redis.exists(f"bridge:inflight:{identity}", f"{identity}:work", identity)
    assert not pidfile.exists()  # in a container the next worker has the same pid, and would refuse to start


@pytest.mark.parametrize("pool", POOLS)
def test_an_error_that_the_consumer_cannot_recover_from_ends_the_worker_as_term_does(
    clean: Stage, make_worker: MakeWorker, pool: str
) -> None:
    """Celery waited for the running job without a limit, and left the worker's row."""
    stage = clean
    worker = make_worker(pool, module="tests.support.failing_consumer")
    identity = worker.identity
    # The solo pool cannot meet this while it runs a job
    payloads = [] if pool == "solo" else hold(stage, "NativeGateJob", retry=0)

    stage.ledger.open_gate("failure")

    assert worker.process.wait(20) == 1
    assert_given_back(stage, payloads, identity)


@pytest.mark.parametrize(
    "end", [pytest.param(end, id="-".join(n.name for n in end)) for end in ([TERM], [QUIT], [INT, INT])]
)
def test_a_job_that_blocks_the_main_thread_does_not_keep_a_solo_worker_from_its_end(
    clean: Stage, make_worker: MakeWorker, end: list[signal.Signals]
) -> None:
    """Python runs a handler between two instructions: the worker lived as long as its job, or was killed."""
    stage = clean
    worker = make_worker("solo", module="tests.support.end_tasks")
    identity = worker.identity
    payloads = hold(stage, "NativeCJob", retry=0)

    for number in end:
        worker.process.signal(number)
        time.sleep(0.1)  # or the kernel makes one signal of two

    assert worker.process.wait(15) == 0
    assert_given_back(stage, payloads, identity)


@pytest.mark.parametrize("pool", POOLS)
def test_hup_does_not_start_a_worker_again_that_is_told_to_end(
    clean: Stage, make_worker: MakeWorker, pool: str
) -> None:
    """systemd's SendSIGHUP and a closed terminal add a HUP to the TERM: a new worker began."""
    stage = clean
    worker = make_worker(pool)
    identity = worker.identity
    payloads = hold(stage, "NativeGateJob", retry=0)

    worker.process.signal(TERM)
    wait_for(lambda: "Warm shutdown" in worker.log, "the worker to notice")
    worker.process.signal(signal.SIGHUP)

    assert worker.process.wait(20) == 0
    assert_given_back(stage, payloads, identity)


@pytest.mark.parametrize("pool", ["default", "prefork"])
def test_the_first_quit_waits_for_running_jobs_as_long_as_the_soft_shutdown_says(
    clean: Stage, make_worker: MakeWorker, pool: str
) -> None:
    stage = clean
    worker = make_worker(pool, "--", "worker.soft_shutdown_timeout=30", env=PATIENCE)
    hold(stage, "NativeGateJob", retry=0)

    worker.process.signal(QUIT)
    wait_for(lambda: "Cold shutdown" in worker.log, "the worker to notice")
    stage.ledger.open_gate("all")

    assert worker.process.wait(20) == 0
    assert stage.counters() == (1, 0)
    assert stage.queued == {}
