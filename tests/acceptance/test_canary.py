"""No argument, secret or password shows in anything that worker, sidecar or Flower say, however jobs fail."""

from __future__ import annotations

import base64
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.integration.test_metric_pages import sidecar_page
from tests.support import redis_users
from tests.support.probes import get
from tests.support.processes import ROOT, Process, clean_environment, free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.support.worker_process import CELERY, bridge_environment

ARGUMENT = "canary-argument-4c1f"
SECRET = "canary-secret-9b3e"
FLOWER_PASSWORD = "canary-flower-77aa"
CANARIES = (ARGUMENT, SECRET, redis_users.PASSWORD, FLOWER_PASSWORD)

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(params=[("bridge", "text"), ("threads", "json"), ("prefork", "json")], ids=lambda p: p[0])
def running(request: pytest.FixtureRequest, bare_stage: Stage) -> tuple[Stage, dict[str, str]]:
    """A worker at DEBUG and its sidecar, with a shared secret and a Redis password."""
    pool, log_format = request.param
    stage = bare_stage
    stage.start_sidecar(env={"BRIDGE_SIDECAR_SECRET": SECRET})
    url = redis_users.url_for(stage.redis_url, redis_users.CONTROL)
    env = {
        "BRIDGE_REDIS_URL": url,
        "BRIDGE_SIDECAR_SECRET": SECRET,
        "BRIDGE_POOL": pool,
        "BRIDGE_LOG_FORMAT": log_format,
    }
    stage.start_worker("-l", "DEBUG", env=env)
    assert stage.sidecar is not None
    return stage, clean_environment() | bridge_environment(url, stage.sidecar.url) | env


def fetch(port: int, path: str) -> str:
    token = base64.b64encode(f"u:{FLOWER_PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def flower_says(stage: Stage, env: dict[str, str], directory: Path) -> str:
    """All of Flower's pages about workers and jobs, and its log, at DEBUG; jobs are pushed meanwhile."""
    port = free_port()
    words = [CELERY, "-A", "bridge", "flower", "--address=127.0.0.1", f"--port={port}", "--logging=debug"]
    flower = Process("flower", words, directory, env={**env, "FLOWER_BASIC_AUTH": f"u:{FLOWER_PASSWORD}"})
    try:
        flower.wait_ready(lambda: fetch(port, "/healthcheck"), 40)
        wait_for(lambda: '"celery@' in fetch(port, "/api/workers?refresh=1"), "the worker in Flower", 40)
        push_all(stage)
        wait_for(lambda: fetch(port, "/api/tasks").count("FailJob") >= 2, "the jobs in Flower", 40)
        pages = ["/", "/workers", "/tasks", "/broker", "/api/tasks", "/api/workers", "/metrics"]
        return "".join(fetch(port, page) for page in pages) + flower.log
    finally:
        flower.stop()


def push_all(stage: Stage) -> list[str]:
    args = [ARGUMENT, {"deep": [ARGUMENT, None]}]
    return [
        stage.push_job({"class": name, "args": args if "Echo" in name else args[:1], "retry": retry})
        for name in ("EchoJob", "FailJob", "NativeEchoJob", "NativeFailJob", "NoSuchJob")
        for retry in (True, 0)
    ]


def inspected(env: dict[str, str]) -> str:
    commands = ["active", "stats", "conf"]
    return "".join(_inspect(command, env) for command in commands)


def _inspect(command: str, env: dict[str, str]) -> str:
    words = [CELERY, "-A", "bridge", "inspect", command, "--timeout", "3"]
    answer = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return answer.stdout + answer.stderr


def test_nothing_that_is_said_shows_an_argument_or_a_secret(
    running: tuple[Stage, dict[str, str]], tmp_path: Path
) -> None:
    stage, env = running
    worker, sidecar = stage.worker, stage.sidecar
    assert worker is not None
    assert sidecar is not None
    jids = push_all(stage)
    wait_for(lambda: stage.counters()[0] >= len(jids), "all jobs to have run", 40)
    stage.push_raw('{"class": "EchoJob", "args": ["' + ARGUMENT)
    stage.push_raw(f'["{ARGUMENT}"]')
    wait_for(lambda: stage.redis.zcard("dead") >= 5, "the unreadable ones to be buried", 20)
    slow = stage.push_job({"class": "GateJob", "args": [ARGUMENT]})
    stage.ledger.wait_for("started", slow)

    said = {
        "worker's pages": "".join(get(worker, path)[1] for path in ("/metrics", "/health", "/health/ready")),
        "sidecar's page": sidecar_page(sidecar.socket),
        "inspect": inspected(env),
        "flower": flower_says(stage, env, tmp_path),
    }
    stage.ledger.open_gate("all")
    stage.wait_idle(30)
    worker.terminate()
    said |= {"worker": worker.log, "sidecar": sidecar.process.log}

    found = [(where, canary) for where, text in said.items() for canary in CANARIES if canary in text]
    assert found == []
    assert "FailJob" in said["worker"]
    assert "ArgumentError: ***" in said["sidecar"]
