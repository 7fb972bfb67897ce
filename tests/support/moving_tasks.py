"""A user's module with native tasks for classes that the Ruby app under test has too."""

from __future__ import annotations

import os
import time
from typing import Any

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note


def is_open(gate: str) -> bool:
    """Whether a test has opened this gate."""
    place = os.path.dirname(os.environ["TEST_LEDGER_HOST"])
    return any(os.path.exists(os.path.join(place, f"gate-{name}")) for name in (gate, "all"))


@app.task(name="EchoJob", bind=True, shadow_safe=True)
def echo(self: SidekiqTask, *args: Any) -> None:
    note(self, "python", *args)


@app.task(name="FailJob", bind=True)
def fail(self: SidekiqTask, message: str = "failed on purpose", *_: Any) -> None:
    note(self, "python", message)
    raise ValueError(message)


@app.task(name="OtherJob", bind=True)
def planted(self: SidekiqTask, *args: Any) -> None:
    """The bug that a move brings: each run fails, until a test says that it is corrected."""
    note(self, "python", *args)
    if not is_open("corrected"):
        raise KeyError("a bug that only Python has")


@app.task(name="ShadowJob", bind=True, shadow_safe=True)
def shadowed(self: SidekiqTask, *args: Any) -> list[Any]:
    """Its planted bug: Python loses an argument ``odd``. Other arguments end the run in other ways."""
    if not self.is_shadow:
        note(self, "python", *args)
    if "raise" in args:
        raise ValueError(f"cannot handle {args[1]}")
    if "exit" in args:
        raise SystemExit(7)
    if "retry" in args:
        raise self.retry(countdown=1)
    if "slow" in args:
        time.sleep(3)
    return [each for each in args if each != "odd"]


@app.task(name="SleepJob", bind=True)
def sleep(self: SidekiqTask, seconds: float) -> None:
    note(self, "python", seconds)
    time.sleep(seconds)


@app.task(name="GateJob", bind=True)
def gate(self: SidekiqTask, name: str) -> None:
    note(self, "python", name)
    while not is_open(name):
        time.sleep(0.01)
    note(self, "done", name)
