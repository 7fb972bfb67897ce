"""Jobs that know checkpoints are asked as soon as their worker stops, in every way that gems have for it.

A launcher was missing, so jobs of job-iteration failed with NoMethodError. Jobs with a flag of their own, and
iterable jobs, were asked at the end of the worker's time-out only: after 25 s, or never.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage, new_jid
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

APP = ROOT / "tests/support/ruby/checkpoints.rb"
WRAPPER = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
STEPS = 150
#: Sidekiq's own processes ask within a second; a step takes 30 ms.
SOON_SECONDS = 1.0
#: Far longer than any test: nothing in here may end because a time-out passed.
PATIENT = {"BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": "60"}
#: The job, and the release of job-iteration by its way of asking.
WAYS = {
    "job-iteration that asks the launcher": ("IterationJob", "launcher"),
    "job-iteration with a flag": ("IterationJob", "flag"),
    "job-iteration with a registry": ("IterationJob", "registry"),
    "ActiveJob::Continuation": ("ContinuedJob", "registry"),
    "a job that asks the launcher": ("LauncherJob", "registry"),
    "Sidekiq::IterableJob": ("WalkingJob", "registry"),
}


@pytest.fixture(scope="module")
def stages(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[dict[str, Stage]]:
    """A sidecar for each way of asking that job-iteration has had."""
    made: dict[str, Stage] = {}
    try:
        for number, way in enumerate(["launcher", "flag", "registry"]):
            made[way] = Stage(redis_server, ruby_root, database=12 + number, jobs=APP)
            made[way].start_sidecar(env={"TEST_JOB_ITERATION": way})
        yield made
    finally:
        for stage in made.values():
            stage.stop()


@pytest.fixture(params=WAYS, ids=lambda way: way.replace(" ", "-"))
def walk(request: pytest.FixtureRequest, stages: dict[str, Stage], sidekiq: tuple[int, ...]) -> Walk:
    name, way = WAYS[request.param]
    if name == "WalkingJob" and sidekiq < (7, 3):
        pytest.skip("iterable jobs came with Sidekiq 7.3")
    stages[way].reset()
    return Walk(stages[way], name)


class Walk:
    """Jobs of one class, which note each of their steps, and the workers that run them."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name = stage, name

    def push(self, queue: str) -> str:
        """A job of many steps, in this queue. Returns its jid."""
        jid = new_jid()
        self.stage.push_raw(json.dumps(self._payload(jid, queue)), queue)
        return jid

    def _payload(self, jid: str, queue: str) -> dict[str, Any]:
        own = {"jid": jid, "queue": queue, "retry": True, "created_at": 1_700_000_000, "args": [STEPS]}
        if self.name not in ("IterationJob", "ContinuedJob"):
            return {"class": self.name, **own}
        inner = {"job_class": self.name, "job_id": jid, "queue_name": queue, "arguments": [STEPS]}
        rest = {"executions": 0, "exception_executions": {}, "locale": "en", "timezone": "UTC"}
        return {"class": WRAPPER, "wrapped": self.name, **own, "args": [{**inner, **rest}]}

    def worker(self, queue: str, *arguments: str) -> WorkerProcess:
        return self.stage.make_worker("-Q", queue, *arguments, env=PATIENT, concurrency=2, name=f"of-{queue}")

    def steps(self, *jids: str) -> list[int]:
        """Steps of these jobs, of all jobs without any; a resumed job of ActiveJob has a new jid."""
        lines = [line for line in self.stage.ledger.lines if line["event"] == "step"]
        return [line["args"][0] for line in lines if not jids or line["jid"] in jids]

    def last_step_at(self, jid: str) -> float:
        return max(
            line["at"] for line in self.stage.ledger.lines if line["event"] == "step" and line["jid"] == jid
        )


def test_a_job_is_asked_when_its_worker_stops_and_goes_on_at_another(walk: Walk) -> None:
    ours, theirs = walk.worker("own"), walk.worker("other")
    try:
        mine, yours = walk.push("own"), walk.push("other")
        wait_for(lambda: walk.steps(mine) and walk.steps(yours), "both jobs to take steps")

        asked_at = time.time()
        assert ours.terminate() == 0

        assert walk.last_step_at(mine) - asked_at < SOON_SECONDS
        assert time.time() - asked_at < 10, "and the worker waits for nothing else"
        before = len(walk.steps(yours))
        wait_for(lambda: len(walk.steps(yours)) > before + 20, "a job of another worker to go on")
        assert walk.stage.redis.zcard("retry") == 0
        (payload,) = walk.stage.redis.lrange("queue:own", 0, -1)
        assert b"retry_count" not in payload
        made = len(walk.steps()) - len(walk.steps(yours))
    finally:
        ours.process.kill()
        theirs.process.kill()

    again = walk.worker("own")
    try:
        wait_for(lambda: walk.stage.ledger.count("complete") == 2, "the job to end, as the other one", 30)
    finally:
        again.stop()
    own_steps = [step for jid in _jids(walk) - {yours} for step in walk.steps(jid)]
    assert sorted(own_steps) == list(range(STEPS)), f"{made} steps were made before the stop"


@pytest.mark.parametrize("way", ["TSTP", "Web UI"])
def test_a_quiet_worker_asks_its_jobs_and_lives_on(walk: Walk, way: str) -> None:
    worker = walk.worker("own")
    try:
        jid = walk.push("own")
        wait_for(lambda: walk.steps(jid), "steps")

        if way == "TSTP":
            worker.process.signal(signal.SIGTSTP)
            asked_at = time.time()
        else:
            walk.stage.redis.lpush(f"{worker.identity}-signals", "TSTP")
            wait_for(lambda: "from the Web UI" in worker.log, "the signal to arrive", 15)
            asked_at = time.time()

        wait_for(lambda: walk.stage.redis.llen("queue:own") == 1, "the job to be back in its queue")
        walk.stage.wait_idle()
        assert walk.last_step_at(jid) - asked_at < SOON_SECONDS
        assert worker.process.is_alive
        assert walk.stage.ledger.count("complete") == 0
    finally:
        worker.process.kill()


def test_a_sidecar_that_stops_asks_the_jobs_of_all_workers(walk: Walk) -> None:
    ours, theirs = walk.worker("own"), walk.worker("other")
    try:
        jids = [walk.push("own"), walk.push("other")]
        wait_for(lambda: all(walk.steps(jid) for jid in jids), "both jobs to take steps")

        asked_at = time.time()
        assert walk.stage.sidecar is not None
        walk.stage.sidecar.process.signal(signal.SIGTERM)
        walk.stage.sidecar.process.wait(20)

        assert max(map(walk.last_step_at, jids)) - asked_at < SOON_SECONDS
        # A worker may claim such a job once more, before it knows that the sidecar is gone.
        wait_until_equal(
            lambda: sum(walk.stage.redis.llen(f"queue:{queue}") for queue in ("own", "other")), 2, "jobs"
        )
        walk.stage.wait_idle()
    finally:
        ours.process.kill()
        theirs.process.kill()
        if walk.stage.sidecar is not None:
            walk.stage.sidecar.process.kill()
            walk.stage.sidecar.start()


def test_a_job_that_raises_shutdown_once_asked_is_given_back_each_time(stages: dict[str, Stage]) -> None:
    """Such a job counted as one that stopped unasked: it was buried the third time."""
    walk = Walk(stages["registry"], "RaisingJob")
    walk.stage.reset()
    jid = walk.push("own")
    for count in range(1, 5):
        before = len(walk.steps(jid))
        worker = walk.worker("own")
        try:
            wait_for(lambda before=before: len(walk.steps(jid)) > before, f"run {count}")
            assert worker.terminate() == 0
        finally:
            worker.process.kill()
        assert walk.stage.redis.llen("queue:own") == 1
    assert walk.stage.redis.zcard("dead") == 0


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_job_is_asked_under_each_pool(stages: dict[str, Stage], pool: str) -> None:
    if pool == "gevent":
        pytest.importorskip("gevent")
    walk = Walk(stages["registry"], "LauncherJob")
    walk.stage.reset()
    worker = walk.worker("own", "-P", pool)
    try:
        jid = walk.push("own")
        wait_for(lambda: walk.steps(jid), "steps")

        asked_at = time.time()
        assert worker.terminate() == 0

        assert walk.last_step_at(jid) - asked_at < SOON_SECONDS
        assert walk.stage.redis.llen("queue:own") == 1
    finally:
        worker.process.kill()


def _jids(walk: Walk) -> set[str]:
    return {line["jid"] for line in walk.stage.ledger.lines if line["event"] == "step"}
