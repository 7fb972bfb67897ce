"""Pushes from Python through the Rails app's own client middleware: locks, tenants and batches are taken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.acceptance.test_commands import celery
from tests.integration.test_ruby_middleware import JOBS, TASKS, gems
from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.support.worker_process import bridge_environment

PUSH = "print(app.send_task('ReportJob', args=['done'], ruby_client=True))"
MORE = "ruby_client=True, queue='low', sidekiq_options={'retry': 7}"


def environment(stage: Stage, **more: str) -> dict[str, str]:
    url = f"unix://{stage.directory / 's.sock'}"
    return clean_environment() | bridge_environment(stage.redis_url, url) | more


def python(stage: Stage, code: str, **env: str) -> str:
    """Run a program of the user's that pushes; returns what it prints, or its error."""
    ended = subprocess.run(
        [sys.executable, "-c", f"from tests.support.ruby_middleware_tasks import app\n{code}"],
        env=environment(stage, **env),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.stdout.strip() or ended.stderr.strip()


def job(stage: Stage, queue: str = "default") -> dict[str, Any]:
    found = stage.redis.lrange(f"queue:{queue}", 0, -1)
    assert len(found) == 1
    payload: dict[str, Any] = json.loads(found[0])
    return payload


def start(stage: Stage) -> Any:
    stage.jobs = JOBS
    return stage.start_sidecar()


def test_a_push_takes_lock_tenant_and_options_as_one_from_ruby(bare_stage: Stage) -> None:
    """Given ruby_client=True, then the job is as perform_async makes it, and a second one is stopped."""
    stage = bare_stage
    start(stage)
    first = python(stage, PUSH)
    pushed = job(stage)
    assert pushed["jid"] == first
    assert (pushed["lock"], pushed["retry"], pushed["apartment"]) == ("until_executed", 1, "public")
    assert "lock_digest" in pushed
    assert gems(stage, first)["status"] == "queued"
    assert python(stage, PUSH) == "None", "the lock is held, and perform_async gives nil"
    assert job(stage)["jid"] == first
    python(stage, "app.send_task('ReportJob', args=['bare'], sidekiq_options={'retry': 1})")
    assert "lock" not in json.loads(stage.redis.lrange("queue:default", 0, 0)[0])

    stage.start_worker(module=TASKS)
    stage.wait_counters(2, 0)
    assert gems(stage, first)["status"] == "complete"
    assert stage.redis.keys("uniquejobs:*") == []
    assert "enter public" in gems(stage, first)["tenant"]


@pytest.mark.parametrize("how", ["apply_async(['done'], {})", "s('done').apply_async({})"])
def test_options_of_the_push_count_more_than_those_of_the_class(bare_stage: Stage, how: str) -> None:
    stage = bare_stage
    start(stage)
    python(stage, f"app.tasks['ReportJob'].{how.replace('{}', MORE)}")
    assert (job(stage, "low")["retry"], job(stage, "low")["lock"]) == (7, "until_executed")


def test_a_delay_and_the_setting(bare_stage: Stage) -> None:
    """Given BRIDGE_RUBY_CLIENT, then delay and countdown pass Ruby, and ruby_client=False does not."""
    stage = bare_stage
    start(stage)
    code = (
        "app.tasks['ReportJob'].apply_async(['later'], countdown=3600);"
        "app.tasks['ReportJob'].delay('now');"
        "app.send_task('OtherJob', ruby_client=False)"
    )
    python(stage, code, BRIDGE_RUBY_CLIENT="true")
    [later] = map(json.loads, stage.redis.zrange("schedule", 0, -1))
    other, now = map(json.loads, stage.redis.lrange("queue:default", 0, -1))
    assert [later.get("apartment"), now.get("apartment"), other.get("apartment")] == [
        "public",
        "public",
        None,
    ]


def test_without_a_sidecar_it_is_refused(bare_stage: Stage) -> None:
    stage = bare_stage
    said = python(stage, PUSH)
    assert "PushRefused" in said
    assert "ruby_client needs a sidecar, and the job was not pushed" in said
    assert stage.queued == {}


def test_another_value_is_refused(bare_stage: Stage) -> None:
    said = python(bare_stage, "app.send_task('ReportJob', ruby_client='yes')")
    assert "ruby_client='yes': write True or False" in said


def test_the_commands_push_through_ruby(bare_stage: Stage) -> None:
    stage = bare_stage
    start(stage)
    words = ["push", "ReportJob", '"done"', "--ruby-client", "--yes"]

    def push() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bridge", *words],
            env=environment(stage),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert push().stdout.strip() == job(stage)["jid"]
    assert job(stage)["lock"] == "until_executed"
    again = push()
    assert again.returncode != 0
    assert "client middleware stopped the push" in again.stderr
    env = {name: environment(stage)[name] for name in ("BRIDGE_SIDECAR_URL",)}
    called = celery(stage, "call", "ReportJob", "--args", '["done"]', BRIDGE_RUBY_CLIENT="1", **env)
    assert "client middleware stopped the push" in called.stderr


def test_a_sidecar_that_was_started_again_is_found(bare_stage: Stage) -> None:
    """Given a program that only pushes, then it finds the new sidecar by itself."""
    stage = bare_stage
    sidecar = start(stage)
    mark = stage.directory / "mark"
    code = (
        "import os, time\n"
        "from bridge import app\n"
        "app.send_task('EchoJob', ruby_client=True)\n"
        "open(os.environ['MARK'], 'w').close()\n"
        "while os.path.exists(os.environ['MARK']): time.sleep(0.01)\n"
        "print(app.send_task('EchoJob', ruby_client=True))"
    )
    pushing = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(stage, MARK=str(mark)),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
    )
    wait_for(mark.exists, "the first push", 30)
    os.kill(sidecar.process.pid, signal.SIGKILL)
    sidecar.process.wait(10)
    sidecar.start()
    mark.unlink()
    out, _ = pushing.communicate(timeout=30)
    assert len(out.strip()) == 24
    assert stage.redis.llen("queue:default") == 2
