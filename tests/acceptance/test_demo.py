"""`make demo`: it runs its own jobs on its own Redis, and leaves an application of the user alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, Process
from tests.support.redis_server import RedisServer
from tests.support.stage import new_jid
from tests.support.waiting import wait_for

DEMO = [sys.executable, "-m", "scripts.demo"]
#: A guard against a demo that hangs: it gives its services a minute each to start, and 90 s to stop.
LONGEST_SECONDS = 400
pytestmark = pytest.mark.timeout(LONGEST_SECONDS + 50)


@pytest.fixture
def application(tmp_path: Path) -> Iterator[RedisServer]:
    """The Redis of a busy application: a Sidekiq process at work, jobs that wait, retries that are due."""
    directory = tmp_path / "application"
    directory.mkdir()
    server = RedisServer(directory)
    payload = '{"class":"LedgerJob","args":["theirs",1],"queue":"default","retry":true,"jid":"%s"}'
    with server.client() as client:
        client.sadd("queues", "default", "critical", "reports")
        for queue in ("default", "critical", "reports"):
            client.lpush(f"queue:{queue}", *[payload % new_jid() for _ in range(20)])
        for name in ("retry", "schedule", "dead"):
            client.zadd(name, {payload % new_jid(): time.time() - 60})
        client.sadd("processes", "web-1:4711:0123456789ab")
        client.hset("web-1:4711:0123456789ab", mapping={"busy": 3, "beat": time.time(), "quiet": "false"})
        client.set("stat:processed", 1234)
    yield server
    server.stop()


def contents(server: RedisServer) -> dict[bytes, bytes]:
    with server.client() as client:
        return {key: client.dump(key) for key in client.scan_iter(count=1000)}


def connections(server: RedisServer) -> int:
    """How many connections the server has ever accepted."""
    with server.client() as client:
        info: Any = client.info("stats")
        return int(info["total_connections_received"])


def shell_of_a_busy_application(url: str) -> Mapping[str, str]:
    """Every variable by which a team's shell may lead one of the demo's processes to the team's services."""
    return {
        "REDIS_URL": url,
        "REDIS_PROVIDER": "THEIR_REDIS",
        "THEIR_REDIS": url,
        "BRIDGE_REDIS_URL": url,
        "BRIDGE_REDIS_URL_FILE": "/nonexistent",
        "BRIDGE_CONFIG": "/nonexistent.yml",
        "BRIDGE_QUEUES": "theirs",
        "BRIDGE_IMPORTS": "their_tasks",
        "BRIDGE_SIDECAR_URL": "http://127.0.0.1:1",
        "BRIDGE_SIDECAR_BIND": "tcp://127.0.0.1:1",
        "BRIDGE_POOL": "prefork",
        "BRIDGE_MISTYPED": "1",
        "CELERY_BROKER_URL": url,
        "CELERY_RESULT_BACKEND": url,
        "FLOWER_BROKER_API": url,
        "FLOWER_PORT": "1",
        "DATABASE_URL": "postgres://127.0.0.1:1/theirs",
        "RAILS_ENV": "production",
        "RACK_ENV": "production",
        "RUBYOPT": "-rtheir_library",
        "BUNDLE_GEMFILE": "/nonexistent/Gemfile",
        "PORT": "1",
        "WEB_CONCURRENCY": "9",
        "SENTRY_DSN": url,
    }


def test_a_busy_application_in_the_shell_is_left_alone(application: RedisServer, tmp_path: Path) -> None:
    """With REDIS_URL in the shell the demo once ran a user's own waiting jobs, and spent their attempts."""
    before = contents(application)
    accepted = connections(application)

    finished = subprocess.run(
        [*DEMO, "--once", "--size", "1", "--directory", str(tmp_path / "demo")],
        cwd=ROOT,
        env={**os.environ, **shell_of_a_busy_application(application.url)},
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "every job ended as expected" in finished.stdout
    assert "EXPECTED" not in finished.stdout
    assert "StatementJob: 20 % of the jobs run in Python" in finished.stdout
    # The addresses come before the first job, and nothing of a service's log is between the lines.
    assert finished.stdout.index("/sidekiq/busy") < finished.stdout.index("jobs enqueued")
    assert not (tmp_path / "demo" / "env.sh").exists()
    # The Web UI of Debian's package answers 404 for its scripts; a page whose buttons are dead needs a word.
    lacks_scripts = not list(
        Path("/usr/share/rubygems-integration").rglob("sidekiq-*/web/assets/**/application.js")
    )
    assert ("gem install --user-install" in finished.stdout) == lacks_scripts
    assert contents(application) == before
    # The test's own two looks; the demo did not so much as connect.
    assert connections(application) == accepted + 2


def test_a_redis_of_an_application_must_be_asked_for_twice(application: RedisServer, tmp_path: Path) -> None:
    before = contents(application)

    finished = subprocess.run(
        [*DEMO, "--once", "--redis", application.url, "--directory", str(tmp_path / "demo")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert finished.returncode == 1
    assert "1 Sidekiq processes and 63 jobs" in finished.stderr
    assert "--share-redis" in finished.stderr
    assert contents(application) == before


def test_commands_by_hand_reach_the_demo_after_sourcing_its_file(
    application: RedisServer, tmp_path: Path
) -> None:
    """Given a demo that runs, when another application's shell sources its file, bridge finds the demo."""
    directory = tmp_path / "demo"
    demo = Process("demo", [*DEMO, "--size", "1", "--directory", directory], tmp_path)
    try:
        demo.wait_ready(lambda: "What to look at" in demo.log, LONGEST_SECONDS / 2)
        for_log = directory / "log" / "worker.log"

        # The terminal is quiet from here on: the worker's lines go to its file, as text.
        shown = demo.log
        lines = for_log.read_text()
        assert not lines.startswith("{")

        by_hand = f". {directory}/env.sh && bridge status && celery -A bridge inspect ping && bridge doctor"
        answer = subprocess.run(
            ["sh", "-c", by_hand],
            cwd=tmp_path,
            env={**os.environ, **shell_of_a_busy_application(application.url), "RUBYOPT": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "pong" in answer.stdout
        wait_for(
            lambda: len(for_log.read_text()) > len(lines), "the worker to write a line of a periodic job", 60
        )
        assert demo.log == shown
        second = subprocess.run(
            [*DEMO, "--once", "--directory", directory], cwd=ROOT, capture_output=True, text=True, timeout=30
        )
        assert second.returncode == 1
        assert "another demo runs" in second.stderr
    finally:
        demo.stop(60)
    assert not (directory / "env.sh").exists()


def test_two_demos_that_start_together_choose_different_ports() -> None:
    """Both found port 3000 free before either listened, and the second one's web server could not start."""
    choose = "from scripts.demo import probes; print(probes.free_port(3000), flush=True); input()"
    demos = [
        subprocess.Popen(
            [sys.executable, "-c", choose], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    try:
        ports = [demo.stdout.readline() for demo in demos if demo.stdout]
    finally:
        for demo in demos:
            demo.communicate("\n")

    assert len(set(ports)) == 3, ports


def test_a_demo_whose_jobs_do_not_end_as_expected_fails(tmp_path: Path) -> None:
    """Given a queue that is paused, so that its jobs cannot end, the demo's exit status tells."""
    own = tmp_path / "redis"
    own.mkdir()
    server = RedisServer(own)
    with server.client() as client:
        client.sadd("paused", "low")
    options = ["--once", "--size", "1", "--timeout", "0"]
    try:
        finished = subprocess.run(
            [*DEMO, *options, "--redis", server.url, "--directory", str(tmp_path / "demo")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
        )
    finally:
        server.stop()

    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "did NOT end as expected" in finished.stdout, finished.stdout + finished.stderr
