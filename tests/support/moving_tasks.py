"""A user's module with native tasks for classes that the Ruby app under test has too."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

from celery import chord, current_task

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


@app.task(name="InsideJob", bind=True, ruby_middleware=True)
def inside(self: SidekiqTask, *_: Any) -> None:
    note(self, "python")
    raise ValueError("failed in Python")


@app.task(name="OtherJob", bind=True)
def planted(self: SidekiqTask, *args: Any) -> None:
    """The bug that a move brings: each run fails, until a test says that it is corrected."""
    note(self, "python", *args)
    if not is_open("corrected"):
        raise KeyError("a bug that only Python has")


def _raise(task: SidekiqTask, args: Any) -> None:
    raise ValueError(f"cannot handle {args[1]}")


def _exit(task: SidekiqTask, args: Any) -> None:
    raise SystemExit(7)


def _retry(task: SidekiqTask, args: Any) -> None:
    raise task.retry(countdown=1)


def _hang(task: SidekiqTask, args: Any) -> None:
    while True:
        time.sleep(0.1)


def _hold_the_interpreter(task: SidekiqTask, args: Any) -> None:
    """No other thread of the process runs meanwhile."""
    re.fullmatch("(a+)+", "a" * 40 + "b")


def _tell(task: SidekiqTask, args: Any) -> None:
    task.progress(1, 2, "half")
    task.update_state(state="HALF", meta={"at": 1})
    task.update_state("another-jid", "HALF", {"at": 1})
    assert current_task.is_shadow


#: How a run of ShadowJob ends, by an argument.
WAYS: dict[str, Callable[[SidekiqTask, Any], object]] = {
    "raise": _raise,
    "exit": _exit,
    "retry": _retry,
    "slow": lambda task, args: time.sleep(3),
    "hang": _hang,
    "stuck": _hold_the_interpreter,
    "crash": lambda task, args: os._exit(7),
    "send": lambda task, args: app.send_task("EchoJob", args=["from a shadow"]),
    "batch": lambda task, args: app.Batch(),
    "chord": lambda task, args: chord([echo.si(1)], echo.si(2)).apply_async(),
    "told": _tell,
}


@app.task(name="ShadowJob", bind=True, shadow_safe=True)
def shadowed(self: SidekiqTask, *args: Any) -> list[Any]:
    """Its planted bug: Python loses an argument ``odd``. Other arguments end the run in other ways."""
    if not self.is_shadow:
        note(self, "python", *args)
    for word in args:
        if isinstance(word, str) and word in WAYS:
            WAYS[word](self, args)
    if "set" in args:
        return set(args)  # type: ignore[return-value]
    return [each for each in args if each != "odd"]


@app.task(name="ObjectJob", shadow_safe=True)
def object_(*args: Any) -> str:
    return "a value of Python"


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
