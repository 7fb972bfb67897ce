"""Probes, metrics and log lines of a real worker."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.integration.worker import job, push
from tests.support.probes import executed, health, port_of, samples, status
from tests.support.redis_server import RedisServer
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

CANARY = "canary-8d2c41"

Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(own_server: RedisServer, tmp_path: Path) -> Iterator[Start]:
    """Starts workers on a Redis of the test's own; their sidecar is absent unless the test names one."""
    made: list[WorkerProcess] = []

    def begin(
        *arguments: str, sidecar: str | None = None, redis_url: str = own_server.url, **env: str
    ) -> WorkerProcess:
        url = sidecar or f"unix://{tmp_path / 's.sock'}"
        settings = {"TEST_LEDGER_HOST": str(tmp_path / "ledger"), **env}
        name = f"worker{len(made)}"
        made.append(
            WorkerProcess(tmp_path, redis_url, url, *arguments, "-n", f"{name}@%h", env=settings, name=name)
        )
        return made[-1]

    yield begin
    for worker in made:
        worker.stop()


# -- probes


def test_probes_tell_of_redis_and_not_of_an_absent_sidecar(start: Start, own_server: RedisServer) -> None:
    worker = start()
    wait_until_equal(lambda: status(worker, "ready"), 200, "to be ready")
    found = health(worker)
    assert found["sidecar"]["breaker"] == "open"
    assert "s.sock" in found["sidecar"]["reason"]
    assert found["lease"]["held"]
    assert found["slots"] == {"total": 5, "busy": 0, "free": 5, "lost": 0}
    assert found["fetch_loop"]["queues"] == ["default"]
    assert samples(worker)["bridge_queue_depth"] == 0

    own_server.stop()
    wait_until_equal(lambda: status(worker, "ready"), 503, "to be unready without Redis", 10)
    assert status(worker, "live") == 200
    assert "Redis has not answered" in health(worker)["reasons"][0]
    gone = samples(worker)
    assert gone["bridge_redis_up"] == 0
    assert "bridge_queue_depth" not in gone

    own_server.start()
    wait_until_equal(lambda: status(worker, "ready"), 200, "to be ready again", 20)
    with own_server.client() as client:
        push(client, "default", job(**{"class": "NativeEchoJob"}))
    wait_until_equal(
        lambda: samples(worker, worker="NativeEchoJob").get("sidekiq_jobs_success_total"),
        1.0,
        "a job to be done",
    )


def test_a_frozen_redis_holds_up_no_scrape(start: Start, own_server: RedisServer) -> None:
    worker = start()
    wait_until_equal(lambda: status(worker, "ready"), 200, "to be ready")
    own_server.process.signal(signal.SIGSTOP)
    try:
        assert "bridge_queue_depth" not in samples(worker)
        wait_until_equal(lambda: status(worker, "ready"), 503, "to be unready", 12)
        assert status(worker, "live") == 200
    finally:
        own_server.process.signal(signal.SIGCONT)
    wait_until_equal(lambda: status(worker, "ready"), 200, "to be ready again", 20)


def test_a_quiet_worker_is_alive_and_not_ready(start: Start) -> None:
    worker = start()
    wait_until_equal(lambda: status(worker, "ready"), 200, "to be ready")
    worker.process.signal(signal.SIGTSTP)
    wait_until_equal(lambda: status(worker, "ready"), 503, "to be unready when quiet")
    assert health(worker)["quiet"]
    assert status(worker, "live") == 200


def test_a_worker_that_ends_says_so_while_its_jobs_run(start: Start, own_server: RedisServer) -> None:
    worker = start(BRIDGE_SHUTDOWN_TIMEOUT_SECONDS="20")
    wait_until_equal(lambda: status(worker, "ready"), 200, "to be ready")
    with own_server.client() as client:
        push(client, "default", job(**{"class": "NativeSleepJob", "args": [4]}))
    wait_until_equal(lambda: health(worker)["slots"]["busy"], 1, "the job to run")
    assert samples(worker, worker="NativeSleepJob")["sidekiq_running_job_runtime_seconds"] >= 0
    worker.process.signal(signal.SIGTERM)
    wait_until_equal(lambda: status(worker, "ready"), 503, "to be unready")
    assert health(worker)["reasons"] == ["the worker is shutting down"]
    assert status(worker, "live") == 200
    assert worker.process.wait(20) == 0


class Refusing(BaseHTTPRequestHandler):
    """A sidecar with another secret."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_wrong_secret_makes_the_worker_unready(start: Start) -> None:
    with HTTPServer(("127.0.0.1", 0), Refusing) as sidecar:
        Thread(target=sidecar.serve_forever, daemon=True).start()
        worker = start(
            sidecar=f"http://127.0.0.1:{sidecar.server_port}", BRIDGE_SIDECAR_SECRET="not-the-right-one"
        )
        # At first it is unready because it has not begun to consume.
        wait_for(lambda: "BRIDGE_SIDECAR_SECRET" in " ".join(health(worker)["reasons"]), "the reason")
        holds_for(lambda: status(worker, "ready") == 503, 1.0, "unready")
        found = health(worker)
        assert found["sidecar"]["rejected"]
        assert samples(worker)["bridge_sidecar_rejected"] == 1
        assert status(worker, "live") == 200
        sidecar.shutdown()
    assert "not-the-right-one" not in worker.log + json.dumps(found)


def test_the_solo_pool_is_alive_and_ready_while_its_job_runs(start: Start, own_server: RedisServer) -> None:
    worker = start("-P", "solo")
    wait_until_equal(lambda: status(worker, "ready"), 200, "to be ready")
    with own_server.client() as client:
        push(client, "default", job(**{"class": "NativeSleepJob", "args": [3]}))
    wait_until_equal(lambda: health(worker)["slots"]["busy"], 1, "the job to run")
    holds_for(lambda: status(worker, "live") == status(worker, "ready") == 200, 1.5, "alive and ready")
    assert health(worker)["fetch_loop"]["still_seconds"] == 0


def test_a_taken_port_is_a_warning_and_the_next_one_is_used(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        worker = start(BRIDGE_HEALTH_BIND=f"127.0.0.1:{port}")
        assert port_of(worker) > port
        assert f"port {port} is taken" in worker.log
        wait_until_equal(lambda: status(worker, "ready"), 200, "to be ready")


# -- metrics and lines


MIX = [
    ("NativeEchoJob", {"args": [CANARY]}, 7),
    ("NativeFailJob", {"retry": True}, 3),
    ("NativeFailJob", {"retry": 0}, 2),
]


@pytest.mark.parametrize("pool", ["threads", "prefork", "gevent", "bridge"])
def test_a_known_mix_is_counted_and_logged(start: Start, own_server: RedisServer, pool: str) -> None:
    arguments = () if pool == "bridge" else ("-P", pool)
    # "auto", the default: the log is no terminal.
    worker = start(*arguments, BRIDGE_POOL=pool, BRIDGE_LOG_FORMAT="auto", PYTHONWARNINGS="ignore")
    with own_server.client() as client:
        for name, fields, count in MIX:
            push(client, "default", *(job(**{"class": name, **fields}) for _ in range(count)))
    wait_until_equal(lambda: sum(executed(worker).values()), 12.0, "all jobs to be counted", 30)

    done, failed = samples(worker, worker="NativeEchoJob"), samples(worker, worker="NativeFailJob")
    assert executed(worker) == {"NativeEchoJob": 7, "NativeFailJob": 5}
    assert (done["sidekiq_jobs_success_total"], done["sidekiq_jobs_failed_total"]) == (7, 0)
    assert (failed["sidekiq_jobs_success_total"], failed["sidekiq_jobs_failed_total"]) == (0, 5)
    assert failed["bridge_retries_scheduled_total"] == 3
    assert samples(worker, worker="NativeFailJob", reason="failed")["bridge_jobs_dead_total"] == 2
    assert done["sidekiq_job_runtime_seconds_count"] == 7
    check_lines(worker)


def check_lines(worker: WorkerProcess) -> None:
    # Lines of jobs wait for each other for a moment.
    wait_until_equal(lambda: worker.log.count('"bridge.job"'), 24, "all lines")
    assert CANARY not in worker.log
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    runs = [line for line in lines if line["logger"] == "bridge.job"]
    words = [line["msg"] for line in runs]
    assert {word: words.count(word) for word in words} == {"start": 12, "done": 7, "retry": 3, "fail": 2}
    for line in runs:
        assert {"ts", "pid", "tid", "lvl", "msg", "ctx"} <= line.keys()
        assert {"jid", "class", "queue"} <= line["ctx"].keys()
        assert line["msg"] == "start" or line["ctx"]["elapsed"] >= 0
    assert not any("received" in line["msg"] or "succeeded" in line["msg"] for line in lines)


def test_the_level_of_the_command_line_wins(start: Start, own_server: RedisServer) -> None:
    worker = start("-l", "WARNING", BRIDGE_LOG_LEVEL="INFO")
    with own_server.client() as client:
        push(client, "default", job(**{"class": "NativeEchoJob", "args": [CANARY]}))
        wait_until_equal(lambda: client.get("stat:processed"), b"1", "the job to be done")
    holds_for(lambda: ": start" not in worker.log and ": done" not in worker.log, 0.5, "no line of the job")


def test_the_text_of_debug_shows_neither_arguments_nor_passwords(
    start: Start, own_server: RedisServer
) -> None:
    with own_server.client() as client:
        client.config_set("requirepass", "hunter2")
        url = own_server.url.replace("//", "//:hunter2@")
        worker = start("-l", "DEBUG", redis_url=url)
        push(client, "default", job(**{"class": "NativeEchoJob", "args": [CANARY]}))
        wait_for(lambda: ": done" in worker.log, "the job to be done")
    assert CANARY not in worker.log
    assert "hunter2" not in worker.log
