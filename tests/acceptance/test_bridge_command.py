"""The ``bridge`` command as an operator uses it, on a real worker and sidecar."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import census
from tests.support.command import Bridge
from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import holds_for, wait_for
from tests.support.worker_process import CELERY


def bridge_of(stage: Stage, **more: str) -> Bridge:
    assert stage.sidecar is not None
    own = {"BRIDGE_REDIS_URL": stage.redis_url, "BRIDGE_SIDECAR_URL": stage.sidecar.url}
    return Bridge({**own, "BRIDGE_HEALTH_BIND": "127.0.0.1:0", **more})


@pytest.fixture
def bridge(stage: Stage) -> Bridge:
    return bridge_of(stage)


# -- how it is started


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip installs it: its console script, and its entry point for Celery."""
    place = tmp_path_factory.mktemp("installed")
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*words, "--target", place, ROOT], check=True, timeout=110)
    return place


def test_the_installed_command_and_celerys_plugin_give_the_same_answer(stage: Stage, installed: Path) -> None:
    stage.push_job({"class": "EchoJob"}, "elsewhere")
    env = clean_environment() | dict(bridge_of(stage).settings) | {"PYTHONPATH": str(installed)}
    script = [installed / "bin/bridge", "queues", "--json"]
    plugin = [CELERY, "-A", "bridge", "sidekiq", "queues", "--json"]

    answers = [
        subprocess.run(words, env=env, cwd=installed, capture_output=True, text=True, timeout=60)
        for words in (script, plugin)
    ]

    assert [answer.returncode for answer in answers] == [0, 0], answers
    names = [[row["name"] for row in json.loads(answer.stdout)] for answer in answers]
    assert names == [["elsewhere"], ["elsewhere"]]


def test_it_runs_from_a_checkout_and_says_so_in_exit_codes(bridge: Bridge) -> None:
    assert bridge.outside("queues").code == 0
    assert bridge.outside("jobs", "show", "nowhere").code == 1
    assert bridge.outside("jobs", "list", "nowhere").code == 2
    away = bridge.outside("queues", env={"BRIDGE_REDIS_URL": "redis://127.0.0.1:1/0"})
    assert (away.code, away.err.count("\n")) == (3, 1)


# -- looking


def test_status_shows_worker_sidecar_queues_and_counters(stage: Stage, bridge: Bridge) -> None:
    stage.ruby.push("EchoJob")
    stage.wait_counters(1, 0)
    assert stage.worker is not None

    said = bridge("status", "--json").well().json
    screen = bridge("status").well().out

    assert (said["totals"]["processed"], said["totals"]["processed_today"]) == (1, 1)
    assert [row["identity"] for row in said["processes"]] == [stage.worker.identity]
    assert (said["sidecars"][0]["status"], said["sidecars"][0]["slots"]) == ("ready", 10)
    assert stage.worker.identity in screen
    assert "processed 1 (today 1)" in screen


def test_a_running_job_is_shown_and_cancelled(stage: Stage, bridge: Bridge) -> None:
    jids = [stage.ruby.push("GateJob", "never"), stage.ruby.push("NativeGateJob", "never")]
    for jid in jids:
        stage.ledger.wait_for("started", jid)
    assert "in the hands of" in bridge("jobs", "show", jids[0]).well().out

    answer = bridge.outside("jobs", "cancel", *jids, "--yes")

    assert answer.code == 0, answer.out + answer.err
    assert answer.out.count("ended") == 2
    stage.wait_idle()
    assert stage.redis.exists("retry", "dead") == 0
    assert [event for jid in jids for event in stage.ledger.events(jid) if event == "done"] == []


def test_a_waiting_job_is_cancelled_by_removing_it(stage: Stage, bridge: Bridge) -> None:
    stage.push_job({"class": "EchoJob", "jid": "waiting"}, "elsewhere")

    assert "it had not begun" in bridge("jobs", "cancel", "waiting", "--yes").well().out
    assert stage.redis.llen("queue:elsewhere") == 0
    assert bridge("jobs", "cancel", "waiting", "--yes").code == 1


# -- orders


def test_a_paused_queue_waits_until_it_is_resumed(stage: Stage, bridge: Bridge) -> None:
    bridge("pause", "low").well()
    jid = stage.ruby.push("EchoJob", queue="low")
    other = stage.ruby.push("EchoJob", queue="default")
    stage.ledger.wait_for("done", other)
    holds_for(lambda: stage.redis.llen("queue:low") == 1, 1, "nobody takes from the paused queue")
    assert "paused" in bridge("queues").out

    bridge("resume", "low").well()

    stage.ledger.wait_for("done", jid)


def test_quiet_and_stop_reach_the_worker_they_name(stage: Stage, bridge: Bridge) -> None:
    assert stage.worker is not None
    shared = stage.worker.identity
    other = stage.make_worker("-Q", "other", name="other")
    try:
        bridge("quiet", other.identity).well()
        wait_for(lambda: stage.redis.hget(other.identity, "quiet") == b"true", "quiet", 20)
        refused = bridge("stop", other.identity, typed="n\n")
        assert refused.code == 1
        bridge("stop", other.identity, "--yes").well()
        assert other.process.wait(30) == 0
    finally:
        other.stop()

    assert stage.redis.hget(shared, "quiet") == b"false"
    assert stage.worker.process.is_alive
    assert bridge("stop", "nobody", "--yes").code == 2
    assert bridge("stop", "--yes").code == 2


# -- verify: always a process of its own, because the application that it pushes with is made once in each


def test_verify_sees_every_outcome_and_leaves_nothing(stage: Stage, bridge: Bridge) -> None:
    answer = bridge.outside("verify", "--json", "--timeout", "90", seconds=110)

    assert answer.code == 0, answer.out
    assert {(one["probe"], one["expected"]) for one in answer.json} == {
        (kind, outcome) for kind in ("native", "ruby") for outcome in ("done", "retried", "dead", "scheduled")
    }
    busy = [one["seen"][0] for one in answer.json if one["expected"] == "done"]
    assert stage.worker is not None
    assert busy == [f"busy in {stage.worker.identity}"] * 2
    assert stage.redis.exists("retry", "dead", "schedule") == 0
    assert stage.queued == {}
    assert census.inflight(stage.redis) == {}


def test_verify_says_what_went_astray(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.start_worker(env={"BRIDGE_SIDECAR_URL": "unix:///nowhere/s.sock"})
    settings = {"BRIDGE_REDIS_URL": stage.redis_url, "BRIDGE_SIDECAR_URL": "unix:///nowhere/s.sock"}

    answer = Bridge(settings).outside("verify", "--only", "ruby", "--timeout", "2", "--no-failures")

    assert answer.code == 1
    assert "ASTRAY" in answer.out
    assert "not there after 2 s" in answer.out
    assert stage.queued == {}  # cleaned up all the same


def test_verify_makes_a_queue_of_its_own_where_sidekiq_reads_all_others(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.start_sidecar()
    stage.start_worker(env={"BRIDGE_QUEUES": "default"})
    beside = StockSidekiq(stage.root, stage.place, stage.redis_url, "-q", "default")
    try:
        answer = bridge_of(stage).outside(
            "verify", "--json", "--only", "ruby", "--timeout", "90", seconds=110
        )
    finally:
        beside.stop()

    assert answer.code == 0, answer.out
    assert {one["queue"] for one in answer.json} == {"bridge-verify"}
    assert b"bridge-verify" not in stage.redis.smembers("queues")


def test_a_list_of_allowed_classes_lets_the_probe_through(bare_stage: Stage) -> None:
    bare_stage.start_sidecar(arguments=("--allow", "EchoJob"))
    bare_stage.start_worker()

    answer = bridge_of(bare_stage).outside(
        "verify", "--json", "--only", "ruby", "--timeout", "90", seconds=110
    )

    assert answer.code == 0, answer.out


# -- recover


def test_after_a_crash_one_command_gives_every_job_back_to_sidekiq(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.start_sidecar()
    worker = stage.start_worker(concurrency=3)
    jids = [stage.ruby.push("GateJob", f"gate{i}") for i in range(3)]
    for jid in jids:
        stage.ledger.wait_for("started", jid)
    payloads = {
        entry.split(b"\n", 2)[2] for held in census.inflight(stage.redis).values() for entry in held.values()
    }
    os.killpg(worker.pid, signal.SIGKILL)  # the keeper too: the lease must run out by itself

    dry = bridge_of(stage)("recover", "--dry-run", "--json").well().json
    assert [row["held"] for row in dry] == [3]
    answer = bridge_of(stage, BRIDGE_LEASE_SECONDS="5")("recover", "--json").well()

    assert answer.json["given_back"] == 3
    assert answer.json["left"] == 0
    assert set(stage.redis.lrange("queue:default", 0, -1)) == payloads
    assert census.inflight(stage.redis) == {}
    stage.ledger.open_gate("all")
    beside = StockSidekiq(stage.root, stage.place, stage.redis_url, "-q", "default")
    try:
        stage.wait_counters(3, 0)
    finally:
        beside.stop()


def test_recover_leaves_the_jobs_of_living_workers_alone(stage: Stage) -> None:
    jid = stage.ruby.push("GateJob", "alive")
    stage.ledger.wait_for("started", jid)
    # What a lost key of leases leaves behind: jobs without any lease.
    orphan = json.dumps({"class": "EchoJob", "args": [], "jid": "orphan", "queue": "elsewhere"}).encode()
    stage.redis.hset("bridge:inflight:gone:9:ffffffffffff", "1", b"1\nelsewhere\n" + orphan)

    answer = bridge_of(stage, BRIDGE_LEASE_SECONDS="3")("recover", "--json").well()

    assert (answer.json["given_back"], answer.json["left"]) == (1, 1)
    assert stage.redis.lrange("queue:elsewhere", 0, -1) == [orphan]
    stage.ledger.open_gate("alive")
    stage.ledger.wait_for("done", jid)
    assert stage.ledger.count("done", jid) == 1


def test_a_watched_status_goes_on_until_it_is_interrupted(bridge: Bridge) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "bridge", "status", "--watch", "--json", "--interval", "0.2"],
        env=clean_environment() | dict(bridge.settings), cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert watching.stdout is not None
        lines = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
    finally:
        watching.kill()
        watching.wait(10)

    assert lines[0]["at"] < lines[1]["at"] < lines[2]["at"] < time.time() + 1


@pytest.mark.parametrize("known_by", ["a job that Rails enqueued", "the sidecar's refusal of a bare one"])
def test_an_active_job_is_not_pushed_by_its_own_name(stage: Stage, bridge: Bridge, known_by: str) -> None:
    # The push succeeded, and the job went to the dead set: "GreetJob is not a Sidekiq job class".
    if known_by == "a job that Rails enqueued":
        stage.ruby.call("active_job", job="GreetJob", args=[""])  # fails, and waits in retry
        wait_for(lambda: stage.redis.zcard("retry") == 1, "the job in retry")
    else:
        bridge("push", "GreetJob", '"Ada"', "--yes").well()
        refusal = stage.only("dead")["error_message"]
        assert "GreetJob is an ActiveJob, which Sidekiq runs only as Rails enqueues it" in refusal

    answer = bridge("push", "GreetJob", '"Ada"', "null")

    assert (answer.code, answer.out) == (2, "")
    assert "GreetJob is an ActiveJob" in answer.err
    assert "bin/rails runner 'GreetJob.perform_later(\"Ada\", nil)'" in answer.err
    assert bridge("push", "EchoJob", "1").well().out
