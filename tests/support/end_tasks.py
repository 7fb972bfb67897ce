"""Native tasks that fork, close what the worker writes to, or are limited in their rate."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import threading
import time

from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import app, note

__all__ = ["app"]


@app.task(name="NativeChildJob", bind=True)
def child(self: SidekiqTask) -> None:
    """Starts a process, as a library would that needs a second core, and ends it."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    time.sleep(0.2)
    process.terminate()
    process.join(20)
    note(self, "child", process.exitcode)
    process.kill()


@app.task(name="NativePoolJob", bind=True)
def pool(self: SidekiqTask) -> None:
    """A process pool with a time-out: leaving it sends TERM to its processes."""
    with multiprocessing.get_context("fork").Pool(1) as processes:
        try:
            processes.apply_async(time.sleep, (60,)).get(0.2)
        except multiprocessing.TimeoutError:
            note(self, "late")
    note(self, "done")


@app.task(name="NativeForkJob", bind=True)
def fork(self: SidekiqTask, end: str) -> None:
    """Forks by hand. The child ends as ``end`` says, within the task's own code."""
    pid = os.fork()
    if pid == 0:
        if end == "exit":
            sys.exit(3)
        if end == "raise":
            raise ValueError("in the child")
        if end == "push":
            app.send_task("NativeEchoJob", args=["child"], queue="forked")
        return
    _, status = os.waitpid(pid, 0)
    note(self, "child", os.waitstatus_to_exitcode(status))


@app.task(name="NativeLimitedJob", bind=True, rate_limit="1/h")
def limited(self: SidekiqTask, *args: object) -> None:
    """The first one runs at once, each further one an hour later."""
    note(self, "done", *args)


@app.task(name="NativeBriskJob", bind=True, rate_limit="20/s")
def brisk(self: SidekiqTask, *args: object) -> None:
    note(self, "done", *args)


@app.task(name="NativeCloseJob", bind=True)
def close(self: SidekiqTask, *names: str) -> None:
    """Closes the standard streams of its process, as a badly written library does."""
    for name in names:
        getattr(sys, name).close()
    note(self, "done", *names)


@app.task(name="NativeDeafJob", bind=True)
def deaf(self: SidekiqTask) -> None:
    """Hears of no time limit: one call in C that does not return."""
    note(self, "started")
    time.sleep(600)


def _wait_for_gate() -> None:
    gate = os.path.join(os.path.dirname(os.environ["TEST_LEDGER_HOST"]), "gate-all")
    ends = time.monotonic() + 120
    while not os.path.exists(gate) and time.monotonic() < ends:
        time.sleep(0.05)


@app.task(name="NativeLeaveJob", bind=True)
def leave(self: SidekiqTask, kind: str) -> None:
    """Leaves a thread or a process that goes on, and that Python waits for at its exit."""
    if kind == "thread":
        threading.Thread(target=_wait_for_gate).start()
    else:
        multiprocessing.get_context("fork").Process(target=_wait_for_gate).start()
    note(self, "done", kind)


@app.task(name="NativeCJob", bind=True)
def in_c(self: SidekiqTask, name: str) -> None:
    """One call in C, which no signal interrupts."""
    note(self, "started", name)
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 60_000_000)
    note(self, "done", name)
