"""A child that a Ruby job forks is not a sidecar: its signals, its status and its sockets are its own."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

APP = ROOT / "tests/support/ruby/forking.rb"
ENDS = {"signal": 15, "exit": 3, "raise": 1}


@pytest.fixture
def forking(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=8, jobs=APP) as stage:
        stage.start_sidecar()
        stage.start_worker()
        yield stage


def test_the_end_of_a_child_is_not_the_end_of_its_job_or_of_the_sidecar(forking: Stage) -> None:
    """TERM to the child did nothing, or stopped the sidecar; its SystemExit was the outcome of the job."""
    pushed = {
        how: forking.push_job({"class": "ForkingJob", "args": [how], "queue": "default", "retry": True})
        for how in ENDS
    }
    for how, jid in pushed.items():
        forking.ledger.wait_for("done", jid, seconds=20)
        assert forking.ledger.args(jid) == [how, ENDS[how]]
    wait_until_equal(forking.counters, (len(ENDS), 0), "processed and failed")
    assert forking.redis.zcard("retry") == 0
    assert forking.sidecar is not None
    assert forking.sidecar.process.is_alive


def test_a_child_that_lives_longer_than_the_sidecar_keeps_no_job_waiting(forking: Stage) -> None:
    """Its copies of the streams stayed open: the worker saw the end of the sidecar 15 s later."""
    left = forking.push_job({"class": "LeavingJob", "args": [], "queue": "default", "retry": True})
    forking.ledger.wait_for("done", left)
    child = psutil.Process(int(forking.ledger.args(left)[0]))
    jid = forking.push_job({"class": "SleepJob", "args": [30], "queue": "default", "retry": True})
    forking.ledger.wait_for("started", jid)
    assert forking.sidecar is not None
    try:
        forking.sidecar.process.kill()
        wait_for(lambda: forking.redis.llen("queue:default") == 1, "the job to be given back", 8)
    finally:
        child.kill()
        forking.sidecar.start()


def test_a_job_that_makes_a_daemon_of_its_process_leaves_no_jobs_behind(bare_stage: Stage) -> None:
    """The daemon held the sockets of the Puma worker that it had been: jobs waited for its answers."""
    stage = bare_stage
    stage.jobs = APP
    stage.start_sidecar(arguments=("--workers", "2"))
    stage.start_worker()
    jid = stage.push_job({"class": "DaemonJob", "args": [], "queue": "default", "retry": True})
    others = [stage.push_job({"class": "EchoJob", "args": [index]}) for index in range(20)]
    stage.ledger.wait_for("done", jid)
    wait_for(lambda: stage.redis.zcard("dead") == 1, "the poison pill to be buried", 45)
    assert stage.only("dead")["jid"] == jid
    for other in others:
        stage.ledger.wait_for("done", other, seconds=20)
