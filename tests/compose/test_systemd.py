"""The units of deploy/systemd under a real systemd, in a container of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

pytestmark = pytest.mark.timeout(400)

IMAGE = f"sidekiq-bridge/systemd:{os.environ.get('TAG', 'local')}"
#: What systemd needs to be the first process, and no more than a machine in a container may have to give.
POWERS = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
)
WORKER, SIDECAR = "sidekiq-bridge-worker", "sidekiq-bridge-sidecar"


def docker(*command: str) -> str:
    done = subprocess.run(["docker", *command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


class Machine:
    """A container whose first process is systemd."""

    def __init__(self) -> None:
        cgroups = "/sys/fs/cgroup:/sys/fs/cgroup:rw"
        self.name = docker(
            *("run", "--detach", *POWERS, "--cgroupns", "host", "--network", "none"),
            *("--volume", cgroups, "--tmpfs", "/run", "--tmpfs", "/tmp", IMAGE),
        )

    def run(self, *command: str) -> str:
        return docker("exec", self.name, *command)

    def shown(self, unit: str, name: str) -> str:
        # In the first moments nobody answers yet.
        return self.run("sh", "-c", f"systemctl show --property {name} --value {unit} || true")

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self.journal()}"
            time.sleep(0.5)

    def wait_active(self) -> None:
        for unit in (SIDECAR, WORKER):
            self.wait(lambda unit=unit: self.shown(unit, "ActiveState") == "active", f"{unit} to be active")

    def journal(self) -> str:
        return docker("exec", self.name, "journalctl", "--no-pager", "-n", "80")

    def push(self, job_class: str, *args: object, jid: str) -> None:
        payload = {"class": job_class, "args": args, "jid": jid, "queue": "default", "retry": True}
        self.run("redis-cli", "lpush", "queue:default", json.dumps({**payload, "created_at": time.time()}))

    def processed(self) -> int:
        said = self.run("redis-cli", "get", "stat:processed")
        return int(said) if said.isdigit() else 0

    def inflight(self) -> list[str]:
        return self.run("redis-cli", "--scan", "--pattern", "bridge:inflight:*").split()

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.remove()


def test_both_units_are_ready_when_they_say_so(machine: Machine) -> None:
    machine.wait_active()
    machine.wait(lambda: machine.shown(WORKER, "StatusText").endswith("workers ready"), "the status")
    machine.run("probe", "unix:///run/sidekiq-bridge/sidecar.sock", "/health/ready")


def test_a_job_runs_under_the_locks_of_the_units(machine: Machine) -> None:
    before = machine.processed()
    machine.push("EchoJob", 1, jid="systemd-1")
    machine.wait(lambda: machine.processed() == before + 1, "the job to be done")
    for unit in (WORKER, SIDECAR):
        status = machine.run("cat", f"/proc/{machine.shown(unit, 'MainPID')}/status")
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status


def test_a_frozen_worker_is_killed_by_the_watchdog_and_started_anew(machine: Machine) -> None:
    machine.wait_active()
    frozen = machine.shown(WORKER, "MainPID")
    machine.run("systemctl", "kill", "--kill-who", "main", "--signal", "STOP", WORKER)
    machine.wait(lambda: machine.shown(WORKER, "MainPID") not in ("0", frozen), "another worker")
    machine.wait_active()
    assert "Watchdog timeout" in machine.run("journalctl", "--no-pager", "-u", WORKER)
    before = machine.processed()
    machine.push("EchoJob", 1, jid="systemd-2")
    machine.wait(lambda: machine.processed() == before + 1, "a job to be done by the new one")


def test_the_worker_stops_before_its_sidecar_and_leaves_nothing(machine: Machine) -> None:
    machine.wait_active()
    machine.run("systemctl", "stop", WORKER, SIDECAR)
    journal = machine.run("journalctl", "--no-pager", "--output", "cat")
    assert journal.rindex("Stopped sidekiq-bridge-worker") < journal.rindex("Stopping sidekiq-bridge-sidecar")
    for unit in (WORKER, SIDECAR):
        assert machine.shown(unit, "Result") == "success"
        assert machine.shown(unit, "ExecMainStatus") == "0"
    assert machine.inflight() == []
