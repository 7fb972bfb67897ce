"""Queues that the app registers as it starts are served: their jobs waited, and nothing said so."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for

APP = ROOT / "tests/support/ruby/own_queues.rb"
OWN = ("by_initializer", "by_capsule")


@pytest.fixture
def own_queues(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=9, jobs=APP) as stage:
        yield stage


def push_to(stage: Stage, *queues: str) -> list[str]:
    return [stage.push_job({"class": "EchoJob", "args": [queue], "queue": queue}, queue) for queue in queues]


@pytest.mark.parametrize("started", ["sidecar first", "worker first"])
def test_queues_of_the_app_are_served(own_queues: Stage, started: str, sidekiq: tuple[int, ...]) -> None:
    stage = own_queues
    if started == "sidecar first":
        stage.start_sidecar()
    worker = stage.start_worker(env={"BRIDGE_QUEUES": "high"})
    if started == "worker first":
        stage.start_sidecar()

    for jid in push_to(stage, *OWN, "high"):
        stage.ledger.wait_for("done", jid, seconds=30)

    told = "by_capsule (capsule serial, 1 at once)" if sidekiq >= (7,) else "by_capsule"
    assert f"registers the queue {told}: this worker takes its jobs too" in worker.log


def test_a_worker_runs_as_many_jobs_of_a_capsule_at_once_as_the_app_declares(
    own_queues: Stage, sidekiq: tuple[int, ...]
) -> None:
    """The worker ran as many as it had slots, and warned that it did not keep the limit."""
    if sidekiq < (7,):
        pytest.skip("capsules came with Sidekiq 7")
    stage = own_queues
    stage.start_sidecar()
    stage.start_worker(env={"BRIDGE_QUEUES": "high"})
    for _ in range(6):
        stage.push_job({"class": "SleepJob", "args": [0.2], "queue": "by_capsule"}, "by_capsule")
    free = [stage.push_job({"class": "SleepJob", "args": [1.0], "queue": "high"}, "high") for _ in range(3)]

    wait_for(lambda: stage.ledger.count("done") == 9, "all jobs", 30)

    assert stage.ledger.most_at_once(lambda line: line["jid"] not in free) == 1
    assert stage.ledger.most_at_once(lambda line: line["jid"] in free) > 1


def test_a_worker_with_its_own_list_of_queues_keeps_to_it_and_says_so(own_queues: Stage) -> None:
    stage = own_queues
    stage.start_sidecar()
    worker = stage.start_worker("-Q", "high")
    mine, theirs = push_to(stage, "high", "by_capsule")

    stage.ledger.wait_for("done", mine)
    wait_for(lambda: "registers the queue by_capsule, which -Q does not name" in worker.log, "a warning")
    holds_for(lambda: stage.ledger.count("done", theirs) == 0, 1.0, "the job in its queue")


@pytest.mark.parametrize("processes", [1, 2])
def test_sidekiq_alive_keeps_answering(own_queues: Stage, processes: int) -> None:
    """No worker read its queue: the key ended, the probe answered 404, and Kubernetes ended the pod."""
    stage = own_queues
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    alive = {"SIDEKIQ_ALIVE_PORT": str(port), "SIDEKIQ_ALIVE_TTL": "4", "HOSTNAME": "pod-1"}
    stage.start_sidecar(env={**alive, "TEST_POLL_INTERVAL": "1"}, arguments=("--workers", str(processes)))
    stage.start_worker(env={"BRIDGE_QUEUES": "high"})
    for number in range(50):
        stage.push_job({"class": "SleepJob", "args": [0.2], "queue": "high", "number": number}, "high")

    # Three times the life of the key.
    holds_for(lambda: status_of(port) == 200, 12.0, "the probe")

    jobs = [line for line in stage.ledger.lines if line["event"] == "done"]
    assert jobs, "and other jobs run beside it"


def status_of(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
