"""Native tasks that report: results, progress, errors of every kind."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from celery.exceptions import Ignore

from bridge import app
from tests.support.native_tasks import note


def wait_for_gate(name: str) -> None:
    place = Path(os.environ["TEST_LEDGER_HOST"]).parent
    while not any((place / f"gate-{each}").exists() for each in (name, "all")):
        time.sleep(0.01)


class Declined(Exception):
    """An error of the tasks' own, with an ``__init__`` that wants more than a message."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@app.task(name="AddJob", track=True)
def add(a: Any, b: Any) -> Any:
    return a + b


@app.task(name="ByCeleryJob", ignore_result=False)
def by_celery(value: Any) -> Any:
    return value


@app.task(name="PlainJob")
def plain(value: Any = None) -> Any:
    return value


@app.task(name="LargeJob", track=True)
def large(size: int) -> str:
    return "x" * size


@app.task(name="OddJob", track=True)
def odd(kind: str) -> Any:
    ring: list[Any] = []
    ring.append(ring)
    return {"object": object(), "nan": math.nan, "ring": ring, "bytes": b"\xff", "surrogate": "\ud800"}[kind]


@app.task(name="FailingJob", track=True, max_retries=0)
def failing(kind: str, message: str) -> None:
    raise {"value": ValueError, "key": KeyError}.get(kind, RuntimeError)(message)


@app.task(name="DeclinedJob", track=True, sidekiq_options={"retry": False})
def declined() -> None:
    raise Declined(7, "no money")


@app.task(name="ExitJob", track=True, sidekiq_options={"retry": False})
def leave() -> None:
    sys.exit(3)


@app.task(name="FlakyJob", track=True, bind=True, default_retry_delay=600)
def flaky(self: Any) -> str:
    if self.request.retries == 0:
        raise OSError("the first time")
    return "the second time"


@app.task(name="SteppingJob", track=True, bind=True)
def stepping(self: Any, steps: int, gate: str = "") -> int:
    for step in range(1, steps + 1):
        told = self.progress(step, steps, f"step {step}")
        note(self, "told", step, told)
        if gate:
            wait_for_gate(gate)
    return steps


@app.task(name="StateJob", bind=True, track=True)
def own_state(self: Any, gate: str) -> str:
    self.update_state(state="UPLOADING", meta={"current": 3, "total": 4, "file": "a.txt"})
    note(self, "told")
    wait_for_gate(gate)
    return "uploaded"


@app.task(name="UntrackedProgressJob", bind=True)
def untracked_progress(self: Any) -> None:
    assert self.progress(1, 2) is False
    self.update_state(state="PROGRESS", meta={"current": 1})


@app.task(name="SleepJob", track=True, sidekiq_options={"retry": False})
def sleeping(seconds: float) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)
    return "slept"


# -- Celery's own examples (userguide: calling, canvas)


@app.task(name="proj.add")
def celerys_add(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="proj.mul")
def celerys_mul(x: Any, y: Any) -> Any:
    return x * y


@app.task(name="proj.error_handler")
def error_handler(request: Any, exc: Any, traceback: Any) -> str:
    text = f"Task {request.id} raised exception: {exc!r}"
    note_line("handled", request.id, [text, type(exc).__name__])
    return text


@app.task(name="proj.on_failure", bind=True)
def on_failure(self: Any, jid: str) -> None:
    note(self, "told", jid)


def note_line(event: str, jid: str, args: Any) -> None:
    line = {"event": event, "jid": jid, "class": "proj.error_handler", "args": args}
    with open(os.environ["TEST_LEDGER_HOST"], "a") as file:
        file.write(json.dumps(line) + "\n")


@app.task(name="SlowAddJob")
def slow_add(x: int, y: int) -> int:
    time.sleep(0.2)
    return x + y


@app.task(name="WrappedJob", track=True, ruby_middleware=True)
def wrapped(value: Any) -> Any:
    if value == "bad":
        raise ValueError("bad")
    return [value]


@app.task(name="proj.ignore")
def ignores(*_: Any) -> None:
    """Ends its chain, as in Celery."""
    raise Ignore
