"""The started compose file: its containers by service, its Rails app, what became of its jobs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("redis", "web", "sidecar-1", "sidecar-2", "worker", "flower", "prometheus")
HEALTHY_SECONDS = 120
ENDED_SECONDS = 180


@dataclass(frozen=True)
class Census:
    """What `tests.compose.census` printed."""

    newest: int
    inflight: int
    jobs: list[tuple[str, str, str]]
    """Class, how it should end, how it ended."""
    processed: int
    failed: int
    dead: int
    scheduled: int
    bookings: int
    """Runs of LedgerJobs."""
    broken_off: int
    """Runs that began and never ended."""

    @property
    def unexpected(self) -> list[tuple[str, str, str]]:
        return [job for job in self.jobs if job[1] != job[2]]

    @property
    def ended(self) -> bool:
        return not self.unexpected and not self.inflight


class Stack:
    """`docker compose` on this project."""

    def __init__(self) -> None:
        self.web_url = f"http://127.0.0.1:{os.environ.get('WEB_PORT', '3000')}"
        self.flower_url = f"http://127.0.0.1:{os.environ.get('FLOWER_PORT', '5555')}"
        self.prometheus_url = f"http://127.0.0.1:{os.environ.get('PROMETHEUS_PORT', '9090')}"

    def compose(self, *arguments: str, timeout: float = 300) -> str:
        return _run(["docker", "compose", *arguments], timeout)

    def up(self) -> None:
        self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "300", timeout=330)

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "40")

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What the engine knows of them (`docker inspect`)."""
        ids = self.compose("ps", "--all", "--quiet", *(services or SERVICES)).split()
        found: list[dict[str, Any]] = json.loads(_run(["docker", "inspect", *ids]))
        return sorted(found, key=lambda container: str(container["Name"]))

    def network(self, name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(_run(["docker", "network", "inspect", name]))
        return found[0]

    def kill_and_start(self, name: str) -> None:
        """SIGKILL for all of a container, and a new life for it."""
        _run(["docker", "kill", "--signal", "KILL", name])
        _run(["docker", "start", name])

    def wait_healthy(self, *services: str) -> None:
        deadline = time.monotonic() + HEALTHY_SECONDS
        while unhealthy := {
            c["Name"]: s for c in self.containers(*services) if (s := _health(c)) != "healthy"
        }:
            assert time.monotonic() < deadline, f"not healthy after {HEALTHY_SECONDS} s: {unhealthy}"
            time.sleep(1)

    def enqueue(self, size: int = 10) -> int:
        """The demo's mix, by the button of the Rails app. Returns the last expectation before it."""
        before = self.census(0).newest
        with requests.Session() as browser:
            page = browser.get(self.web_url, timeout=30)
            (token,) = re.findall(r'name="authenticity_token" value="([^"]+)"', page.text)[:1]
            form = {"authenticity_token": token, "size": str(size), "native": "1"}
            reply = browser.post(f"{self.web_url}/enqueue", data=form, timeout=60, allow_redirects=False)
            assert reply.status_code == 302, reply.text[:500]
        return before

    def enqueue_slow(self, slow_seconds: float) -> int:
        """The same mix by the app's rake task, with SlowJobs that take so long. Returns as `enqueue`."""
        before = self.census(0).newest
        settings = ("-e", "SIZE=5", "-e", f"SLOW_SECONDS={slow_seconds}")
        self.compose("exec", "-T", *settings, "web", "bin/rails", "demo:enqueue")
        return before

    def census(self, last: int) -> Census:
        """Jobs enqueued after expectation `last`."""
        text = self.compose("exec", "-T", "census", "python", "-m", "tests.compose.census", str(last))
        found = json.loads(text)
        return Census(**{**found, "jobs": [tuple(job) for job in found["jobs"]]})

    def wait_ended(self, last: int) -> Census:
        """Wait until every job enqueued after `last` has ended as it should."""
        deadline = time.monotonic() + ENDED_SECONDS
        while not (census := self.census(last)).ended:
            assert time.monotonic() < deadline, f"after {ENDED_SECONDS} s: {census.unexpected}, {census}"
            time.sleep(2)
        return census

    def redis(self, *command: str) -> str:
        return self.compose("exec", "-T", "redis", "redis-cli", *command).strip()

    def secret(self, name: str, variable: str) -> str:
        """A value of one of the files that deploy/docker/make-secrets wrote."""
        text = (Path(os.environ["SECRETS_DIR"]) / name).read_text()
        return dict(line.split("=", 1) for line in text.splitlines())[variable]


def _health(container: dict[str, Any]) -> str:
    state = container["State"]
    return str(state["Health"]["Status"]) if state["Running"] else "stopped"


def _run(command: list[str], timeout: float = 60) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout
