"""What Celery's documentation tells users to write works here as there, on real workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_commands import celery
from tests.support import census
from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import CELERY, WorkerProcess, bridge_environment

MODULE = "tests.support.ordinary_tasks"


def start(stage: Stage, *words: str, **options: Any) -> WorkerProcess:
    return stage.make_worker("-Q", "ordinary,routed", *words, module=MODULE, **options)


def push(stage: Stage, name: str, *args: Any, **options: Any) -> str:
    return stage.push_job({"class": name, "args": args, "retry": True, **options}, "ordinary")


def run_code(stage: Stage, code: str) -> str:
    """Run a program that pushes; gives what it prints."""
    answer = subprocess.run(
        [CELERY.with_name("python"), "-c", code],
        env=clean_environment() | bridge_environment(stage.redis_url, None),
        cwd=ROOT, capture_output=True, text=True, timeout=40,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


class TestTasks:
    """One worker of each pool for all of these."""

    @pytest.fixture(scope="class", params=["default", "prefork"])
    def worker(self, request: pytest.FixtureRequest, shared_stage: Stage) -> Iterator[WorkerProcess]:
        flags = () if request.param == "default" else ("-P", "prefork")
        worker = start(shared_stage, *flags, concurrency=3, name=f"ordinary-{request.param}")
        yield worker
        worker.stop()

    @pytest.fixture(autouse=True)
    def clean(self, worker: WorkerProcess, stage: Stage) -> None:
        """Nothing is left of the test before."""

    def test_bind_gives_self_and_the_fields_of_self_request(self, stage: Stage) -> None:
        jid = push(stage, "RequestJob", 1, "two", retry_count=3)
        stage.ledger.wait_for("done", jid)

        shown, hostname = stage.ledger.args(jid)

        assert shown == {
            "id": jid,
            "args": [1, "two"],
            "kwargs": {},
            "retries": 4,
            "is_eager": False,
            "called_directly": False,
            "task": "RequestJob",
            "eta": None,
            "expires": None,
            "queue": "ordinary",
            "redelivered": False,
        }
        assert hostname.startswith("celery@")

    @pytest.mark.parametrize("how", ["countdown", "eta"])
    def test_self_retry_waits_for_its_countdown_or_eta(self, stage: Stage, how: str) -> None:
        jid = push(stage, "LaterJob", how)

        entry = stage.only("retry")
        assert entry["jid"] == jid
        stage.ledger.wait_for("done", jid, seconds=30)

        assert stage.ledger.args(jid) == [1]
        stage.wait_counters(2, 1)

    def test_hooks_and_signals_are_called_in_celerys_order(self, stage: Stage) -> None:
        done, again = push(stage, "HooksJob", "works"), push(stage, "HooksJob", "fails")
        dead = push(stage, "HooksJob", "fails", retry=0)
        for jid in (done, again, dead):
            stage.ledger.wait_for("signal task_postrun", jid)
        stage.wait_idle()

        assert _told(stage, done) == [
            "signal task_prerun", "before_start", "run", "on_success", "signal task_success",
            "after_return", "signal task_postrun",
        ]  # fmt: skip
        # (after_return is not called for a retry)
        assert _told(stage, again) == [
            "signal task_prerun", "before_start", "run", "on_retry", "signal task_retry",
            "signal task_postrun",
        ]  # fmt: skip
        assert _told(stage, dead) == [
            "signal task_prerun", "before_start", "run", "on_failure", "signal task_failure",
            "after_return", "signal task_postrun",
        ]  # fmt: skip
        # A class-based task has its arguments and its return value
        assert stage.ledger.args(done, "on_success") == ["result"]
        assert stage.ledger.args(dead, "on_failure") == ["ValueError"]

    def test_a_call_of_the_users_own_goes_around_each_run(self, stage: Stage) -> None:
        """As Flask's documentation has it."""
        jid = push(stage, "ContextJob")
        stage.ledger.wait_for("done", jid)

        assert stage.ledger.args(jid) == ["inside"]

    def test_pydantic_reads_models_and_refuses_what_is_none(self, stage: Stage) -> None:
        jid = push(stage, "ModelJob", {"number": "41", "note": "ü"})
        stage.ledger.wait_for("done", jid)
        assert stage.ledger.args(jid) == [42, "ü"]

        push(stage, "ModelJob", {"number": "many"})
        assert stage.only("retry")["error_class"].endswith("ValidationError")

    def test_a_push_of_a_pydantic_model_arrives_as_the_model(self, stage: Stage) -> None:
        call = "model.apply_async([Order(number=1)], queue='ordinary')"
        code = f"from {MODULE} import Order, model\nprint({call}.id)"
        jid = run_code(stage, code).strip()
        stage.ledger.wait_for("done", jid)

        assert stage.ledger.args(jid) == [2, "none"]

    def test_track_started_and_a_strategy_of_the_users_own(self, stage: Stage) -> None:
        stage.ledger.wait_for("done", push(stage, "StartedJob"))
        jid = push(stage, "StrategyJob")
        stage.ledger.wait_for("done", jid)

        assert stage.ledger.count("strategy") == 1
        stage.wait_counters(2, 0)

    def test_a_result_of_50_mb_is_dropped_and_the_job_is_done(self, stage: Stage) -> None:
        for _ in range(3):
            stage.ledger.wait_for("done", push(stage, "LargeJob"))

        stage.wait_counters(3, 0)
        assert not stage.redis.keys("celery-task-meta*")

    def test_task_routes_lead_to_a_queue(self, stage: Stage) -> None:
        code = f"from {MODULE} import routed, glob\nprint(routed.delay().id, glob.delay().id)"
        for jid in run_code(stage, code).split():
            stage.ledger.wait_for("done", jid)
            assert stage.ledger.args(jid) == ["routed"]

    def test_time_limits_of_the_decorator_hold(self, stage: Stage) -> None:
        hard, soft = push(stage, "LimitedJob"), push(stage, "SoftLimitedJob")

        wait_until_equal(lambda: stage.redis.zcard("retry"), 2, "both in retry", 30)

        entries = {entry["jid"]: entry["item"]["error_class"] for entry in stage.ruby.set("retry")}
        assert entries[hard] == "Bridge::DeadlineExceeded"
        assert entries[soft].endswith("SoftTimeLimitExceeded")


def _told(stage: Stage, jid: str) -> list[str]:
    """Without the lines of Ruby's handlers of errors and deaths."""
    return [event for event in stage.ledger.events(jid) if event not in ("error", "died")]


class TestWorkers:
    """One worker for each."""

    @pytest.fixture
    def stage(self, shared_stage: Stage) -> Stage:
        shared_stage.reset()
        return shared_stage

    def test_control_time_limit_changes_the_limits_of_a_task(self, stage: Stage) -> None:
        worker = start(stage, "-n", "limits@%h", name="limits")
        try:
            limits = ("time_limit", "LongJob", "60", "1")
            address = f"limits@{os.uname().nodename}"
            answer = celery(stage, "control", *limits, "-d", address, "--timeout", "3")
            assert "time limits set successfully" in answer.stdout, answer.stdout + answer.stderr

            jid = push(stage, "LongJob", 60)
            assert stage.only("retry")["error_class"] == "Bridge::DeadlineExceeded"
            assert stage.ledger.events(jid)[0] == "started"
        finally:
            worker.stop()

    @pytest.mark.parametrize("pool", ["hybrid", "prefork"])
    def test_hup_starts_the_worker_again_and_loses_nothing(self, stage: Stage, pool: str) -> None:
        """It waited for a long job without a limit, and took no other meanwhile."""
        flags = ("-P", "prefork") if pool == "prefork" else ()
        worker = start(stage, *flags, name=f"hup-{pool}")
        try:
            for restarts, seconds in enumerate((0.5, 60.0)):
                before = worker.identity
                jid = push(stage, "LongJob", seconds)
                stage.ledger.wait_for("started", jid)

                worker.process.signal(signal.SIGHUP)

                # Then a new worker has the same pid, and the job that does not end in time runs again
                wait_for(lambda old=before: worker.identity not in ("", old), "the new worker", 30)
                stage.ledger.wait_for("done" if seconds < 1 else "started", jid, times=1 + restarts)
                stage.ledger.wait_for("done", push(stage, "StartedJob"))
            stage.wait_counters(3, 0)
            # and TERM ends it for good
            assert worker.terminate() == 0
            assert [json.loads(job)["jid"] for job in stage.redis.lrange("queue:ordinary", 0, -1)] == [jid]
        finally:
            worker.stop()

    def test_control_shutdown_ends_the_worker_in_order(self, stage: Stage) -> None:
        worker = start(stage, "-n", "leaves@%h", name="leaves")
        try:
            short, long = push(stage, "LongJob", 0.5), push(stage, "LongJob", 60)
            for jid in (short, long):
                stage.ledger.wait_for("started", jid)

            celery(stage, "control", "shutdown", "-d", f"leaves@{os.uname().nodename}", "--timeout", "1")

            assert worker.process.wait(30) == 0
            assert stage.ledger.events(short) == ["started", "done"]
            left = [json.loads(job)["jid"] for job in stage.redis.lrange("queue:ordinary", 0, -1)]
            assert left == [long]
            assert not census.inflight(stage.redis)
        finally:
            worker.stop()

    def test_without_mingle_gossip_and_heartbeat_it_works_as_before(self, stage: Stage) -> None:
        words = ("--without-mingle", "--without-gossip", "--without-heartbeat")
        worker = start(stage, *words, "-c", "auto", name="without")
        try:
            stage.ledger.wait_for("done", push(stage, "StartedJob"))
            assert worker.identity, "it is on the Busy page all the same"
            # and -c auto is as many slots as there are cores
            found = re.search(r"slots (\d+),", worker.log)
            assert found is not None
            assert int(found[1]) in (os.cpu_count(), len(os.sched_getaffinity(0)))
        finally:
            worker.stop()

    def test_options_about_other_things_than_jobs_are_accepted(self, stage: Stage, tmp_path: Path) -> None:
        pid = tmp_path / "pid"
        words = (
            f"-E -O fair --heartbeat-interval 5 --disable-prefetch -S {tmp_path}/state --umask 077 -X routed"
        )
        worker = start(stage, *words.split(), f"--pidfile={pid}", "-n", "own@%h", name="accepted")
        try:
            stage.ledger.wait_for("done", push(stage, "StartedJob"))
            assert int(pid.read_text()) == worker.process.pid
            assert "takes jobs from ordinary;" in worker.log
            assert celery(stage, "inspect", "ping", "-d", f"own@{os.uname().nodename}").returncode == 0
            assert worker.terminate() == 0
        finally:
            worker.stop()

    def test_beat_within_the_worker_pushes_its_entries(self, stage: Stage, tmp_path: Path) -> None:
        worker = start(stage, "-B", "-s", str(tmp_path / "schedule"), name="with-beat")
        try:
            wait_for(lambda: stage.ledger.count("tick") >= 2, "two ticks", 25)
            assert worker.terminate() == 0
        finally:
            worker.stop()

    def test_a_worker_with_purge_is_refused_and_purges_nothing(self, stage: Stage) -> None:
        jid = push(stage, "StartedJob")
        env = clean_environment() | bridge_environment(stage.redis_url, None)

        ended = subprocess.run(
            [CELERY, "-A", MODULE, "worker", "-c", "1", "-Q", "ordinary", "--purge"],
            env=env | {"TEST_LEDGER_HOST": str(stage.ledger.path)},
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

        assert ended.returncode == 78, ended.stdout
        assert "refused to purge ordinary" in ended.stderr
        assert "Traceback" not in ended.stderr + ended.stdout
        assert [json.loads(job)["jid"] for job in stage.redis.lrange("queue:ordinary", 0, -1)] == [jid]

    def test_celery_multi_starts_restarts_and_stops_workers(self, stage: Stage, tmp_path: Path) -> None:
        env = clean_environment() | bridge_environment(stage.redis_url, f"unix://{stage.directory}/s.sock")
        env |= {"TEST_LEDGER_HOST": str(stage.ledger.path)}
        files = [f"--pidfile={tmp_path}/%n.pid", f"--logfile={tmp_path}/%n%I.log"]

        def multi(command: str) -> None:
            words = [command, "one", "two", "-A", MODULE, "-Q", "ordinary,routed", "-c", "2", "-l", "INFO"]
            answer = subprocess.run(
                [CELERY, "multi", *words, *files],
                env=env, cwd=ROOT, capture_output=True, text=True, timeout=90,
            )  # fmt: skip
            assert answer.returncode == 0, answer.stdout + answer.stderr

        def pids() -> set[int]:
            return {int(file.read_text()) for file in tmp_path.glob("*.pid") if file.read_text().strip()}

        before = stage.redis.scard("processes")
        multi("start")
        try:
            wait_until_equal(lambda: stage.redis.scard("processes"), before + 2, "two workers", 40)
            stage.ledger.wait_for("done", push(stage, "StartedJob"))
            first = pids()

            multi("restart")
            wait_for(lambda: len(pids()) == 2 and not pids() & first, "two others", 40)
            wait_until_equal(lambda: stage.redis.scard("processes"), before + 2, "two workers", 40)
            stage.ledger.wait_for("done", push(stage, "StartedJob"))
        finally:
            multi("stopwait")
        wait_until_equal(lambda: stage.redis.scard("processes"), before, "no worker")
        assert not census.inflight(stage.redis)
