"""The shell completes names that are in Redis, and stays quiet where it cannot."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import redis

from tests.support.processes import ROOT, clean_environment
from tests.support.redis_server import RedisServer

#: What bash does when a person presses Tab.
TAB = """
source "$SCRIPT"
COMP_WORDS=({words}) COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_bridge_completion bridge
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script that the documents load, made once."""
    made = subprocess.run(
        [sys.executable, "-c", "from bridge.cli import main; main(prog_name='bridge')"],
        env=clean_environment() | {"_BRIDGE_COMPLETE": "bash_source", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    path = tmp_path_factory.mktemp("completion") / "bridge.bash"
    path.write_text(made.stdout)
    return path


@pytest.fixture
def environment(
    redis_server: RedisServer, empty_redis: redis.Redis, bash_script: Path, tmp_path: Path
) -> Mapping[str, str]:
    for queue, name, jid in (("default", "HardJob", "a1"), ("reports", "ReportJob", "a2")):
        empty_redis.sadd("queues", queue)
        empty_redis.lpush(f"queue:{queue}", json.dumps({"class": name, "args": [], "jid": jid}))
    wrapped = {"class": "Wrapper", "wrapped": "MailJob", "args": [{}], "jid": "b1"}
    empty_redis.zadd("retry", {json.dumps(wrapped): time.time()})
    empty_redis.zadd("dead", {"no job at all": time.time()})
    command = tmp_path / "bridge"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m bridge "$@"\n')
    command.chmod(0o755)
    found = clean_environment() | {"BRIDGE_REDIS_URL": redis_server.url_of(15), "PYTHONPATH": str(ROOT)}
    return found | {"PATH": f"{tmp_path}:{found['PATH']}", "SCRIPT": str(bash_script)}


def tab(words: str, environment: Mapping[str, str]) -> list[str]:
    """What bash offers for the last of these words."""
    assert shutil.which("bash")
    script = TAB.format(words=words)
    finished = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=30
    )
    assert finished.stderr == ""
    return [line for line in finished.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("bridge pa", ["pause"]),
        ("bridge pause ''", ["default", "reports"]),
        ("bridge pause rep", ["reports"]),
        ("bridge push ''", ["HardJob", "MailJob", "ReportJob"]),
        ("bridge push HardJob --queue d", ["default"]),
        ("bridge jobs list ''", ["dead", "queue:default", "queue:reports", "retry", "schedule"]),
        ("bridge jobs show ''", ["a1", "a2", "b1"]),
        ("bridge jobs retry retry ''", ["b1"]),
        ("bridge jobs delete dead ''", []),
        ("bridge jobs list retry --class M", ["MailJob"]),
        ("bridge quiet ''", []),
    ],
)
def test_the_shell_offers_what_is_in_redis(
    environment: Mapping[str, str], words: str, offered: list[str]
) -> None:
    assert tab(words, environment) == offered


@pytest.mark.parametrize(
    "wrong",
    [
        {"BRIDGE_REDIS_URL": "redis://127.0.0.1:1/0"},
        {"BRIDGE_REDIS_URL": "nonsense"},
        {"BRIDGE_CONCURRENCY": "many"},
        {"BRIDGE_CONFIG": "/no/such/file.yml"},
    ],
)
def test_a_mistake_offers_nothing_and_prints_nothing(
    environment: Mapping[str, str], wrong: Mapping[str, str]
) -> None:
    assert tab("bridge pause ''", {**environment, **wrong}) == []


class Silent:
    """A server that answers nothing, and how long its clients waited for that."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.waited_seconds: list[float] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._server.accept()
                began = time.monotonic()
                with connection:
                    while connection.recv(4096):
                        pass
                self.waited_seconds.append(time.monotonic() - began)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)


def test_a_redis_that_does_not_answer_does_not_hold_the_shell_up(environment: Mapping[str, str]) -> None:
    """Given a server that is silent, when a person presses Tab, then the shell goes on after a second.

    The starts of Python are not counted: two of them took more than ten seconds on a loaded machine.
    """
    silent = Silent()
    try:
        url = f"redis://127.0.0.1:{silent.port}/0"
        assert tab("bridge pause ''", {**environment, "BRIDGE_REDIS_URL": url}) == []
    finally:
        silent.close()
    assert silent.waited_seconds
    assert sum(silent.waited_seconds) < 4
