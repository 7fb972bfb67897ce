"""A user's module: imports the application and adds tasks that run in Python."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from bridge import app
from bridge.execution.task import SidekiqTask


def note(task: SidekiqTask, event: str, *args: Any) -> None:
    """One line in the ledger that the Ruby jobs write to as well."""
    line = {
        "event": event,
        "jid": task.request.id,
        "class": task.name,
        "args": args,
        "at": time.time(),
        "pid": os.getpid(),
    }
    handle = os.open(os.environ["TEST_LEDGER_HOST"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, json.dumps(line).encode() + b"\n")
    finally:
        os.close(handle)


@app.task(name="NativeEchoJob", bind=True)
def echo(self: SidekiqTask, *args: Any, **kwargs: Any) -> None:
    note(self, "done", *args, *([kwargs] if kwargs else []))


@app.task(name="NativeFailJob", bind=True)
def fail(self: SidekiqTask, message: str = "failed on purpose") -> None:
    note(self, "failed", message)
    raise ValueError(message)


@app.task(name="NativeGateJob", bind=True)
def gate(self: SidekiqTask, name: str) -> None:
    note(self, "started", name)
    place = os.path.dirname(os.environ["TEST_LEDGER_HOST"])
    gates = [os.path.join(place, f"gate-{gate}") for gate in (name, "all")]
    while not any(map(os.path.exists, gates)):
        time.sleep(0.01)
    note(self, "done", name)


@app.task(name="NativeSleepJob", bind=True)
def sleep(self: SidekiqTask, seconds: float) -> None:
    note(self, "started", seconds)
    time.sleep(seconds)
    note(self, "done", seconds)


@app.task(name="NativePatientJob", bind=True)
def patient(self: SidekiqTask, seconds: float) -> None:
    """Takes its time in Python, where an exception from outside reaches it, and swallows what it can."""
    note(self, "started", seconds)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            time.sleep(0.01)
        except Exception:
            note(self, "swallowed", seconds)
    note(self, "done", seconds)


HOARD: list[bytes] = []


@app.task(name="NativeHoardJob", bind=True)
def hoard(self: SidekiqTask, megabytes: int) -> None:
    HOARD.append(os.urandom(1_000_000) * megabytes)
    note(self, "done", megabytes)


@app.task(name="NativePushJob", bind=True)
def push(self: SidekiqTask, name: str) -> None:
    note(self, "done", app.send_task(name, args=[]).id)


@app.task(name="NativeLambdaJob", bind=True)
def from_lambda(self: SidekiqTask) -> None:
    (lambda: 1 // 0)()


@app.task(name="NativeUniqueJob", bind=True)
def fail_in_an_active_job(self: SidekiqTask, message: str) -> None:
    note(self, "failed", message)
    raise ValueError(message)
