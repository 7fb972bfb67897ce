"""A managed Redis takes commands away, by `rename-command` or an ACL. The worker says so, and goes on.

With CLIENT renamed away a worker ended with exit status 1 and a traceback; without SCRIPT it took no job and
wrote a traceback each second.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger import Ledger
from tests.support.processes import ROOT, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.worker_process import CELERY, WorkerProcess, bridge_environment

#: Commands, and what the worker says of them.
DONE_WITHOUT = [
    ("CLIENT", ["refuses CLIENT SETNAME", "refuses CLIENT TRACKING"]),
    ("BLMOVE", ["refuses BLMOVE", "looks at each queue every BRIDGE_POLL_INTERVAL_SECONDS"]),
    ("INFO", ["refuses INFO", "cannot tell whether Redis drops jobs"]),
    ("PSUBSCRIBE", ["refuses PSUBSCRIBE", "hears no remote control", "BRIDGE_REMOTE_CONTROL=false"]),
    ("SCRIPT", []),
    ("CONFIG", []),
    ("DEBUG", []),
    ("FUNCTION", []),
    ("KEYS", []),
    ("ROLE", []),
]
NEEDED = ["EVALSHA", "TIME"]


@pytest.fixture
def renamed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A Redis without a command."""
    server = RedisServer(tmp_path, "--rename-command", request.param, "")
    yield server
    server.stop()


@pytest.fixture
def restricted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[RedisServer, str]]:
    """A Redis, and the URL of a user who may not call a command."""
    server = RedisServer(tmp_path)
    rules = ("on", ">secret", "~*", "&*", "+@all", f"-{request.param.lower()}")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "narrow", *rules)
    yield server, f"redis://narrow:secret@127.0.0.1:{server.port}/0"
    server.stop()


def runs_a_job(server: RedisServer, directory: Path, url: str) -> str:
    """Start a worker, let it run a job and end; returns its log."""
    ledger = Ledger(directory / "ledger")
    env = {"BRIDGE_REDIS_URL": url, "TEST_LEDGER_HOST": str(ledger.path)}
    worker = WorkerProcess(directory, server.url, f"unix://{directory}/none.sock", env=env)
    with server.client() as client:
        client.lpush("queue:default", json.dumps({"class": "NativeEchoJob", "args": [], "jid": "a" * 24}))
    ledger.wait_for("done", "a" * 24)
    assert worker.terminate() == 0
    return worker.log


@pytest.mark.parametrize(("renamed", "said"), DONE_WITHOUT, indirect=["renamed"])
def test_a_worker_without_a_command_says_so_and_runs_jobs(
    renamed: RedisServer, tmp_path: Path, said: list[str]
) -> None:
    log = runs_a_job(renamed, tmp_path, renamed.url)

    assert all(part in log for part in said), log
    assert "Traceback" not in log


@pytest.mark.parametrize(("restricted", "said"), DONE_WITHOUT[:5], indirect=["restricted"])
def test_a_worker_whose_user_lacks_a_command_says_so_and_runs_jobs(
    restricted: tuple[RedisServer, str], tmp_path: Path, said: list[str]
) -> None:
    server, url = restricted
    log = runs_a_job(server, tmp_path, url)

    if "refuses BLMOVE" not in said:  # an ACL forbids it only at its call, which waits
        assert all(part in log for part in said), log
    assert "Traceback" not in log


def start(directory: Path, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CELERY, "-A", "bridge", "worker"],
        env={**clean_environment(), **bridge_environment(url, None), "BRIDGE_REDIS_URL": url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("renamed", NEEDED, indirect=True)
def test_a_worker_does_not_start_without_a_command_that_it_needs(
    renamed: RedisServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    done = start(tmp_path, renamed.url)

    name = request.node.callspec.params["renamed"]
    assert f"bridge: Redis refuses {name}, and no worker can do without" in done.stderr
    assert done.returncode == 77


@pytest.mark.parametrize("restricted", NEEDED, indirect=True)
def test_a_worker_whose_user_lacks_a_command_that_it_needs_does_not_start(
    restricted: tuple[RedisServer, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    done = start(tmp_path, restricted[1])

    name = request.node.callspec.params["restricted"]
    assert f"bridge: Redis refuses {name}, and no worker can do without" in done.stderr
    assert done.returncode == 77


@pytest.mark.parametrize("renamed", ["CLIENT", "SCRIPT", "INFO"], indirect=True)
@pytest.mark.parametrize(
    "words", [("jobs", "list", "retry"), ("queues",), ("doctor",), ("push", "HardJob", "[1]")]
)
def test_the_command_line_works_without_it(renamed: RedisServer, words: tuple[str, ...]) -> None:
    from tests.support.command import Bridge

    answer = Bridge({"BRIDGE_REDIS_URL": renamed.url, "BRIDGE_SIDECAR_URL": "unix:///tmp/none.sock"})(*words)

    assert "unknown command" not in answer.err + answer.out
    assert answer.code == 0 or words == ("doctor",)
