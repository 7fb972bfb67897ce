"""Exceptions raised from outside hit a task's own code, and nothing else."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bridge.execution import async_exceptions
from bridge.execution.outcomes import DeadlineExceeded, JobCancelled
from tests.support.waiting import wait_for


def busy(seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pass


class Runner:
    """A thread that runs ``code`` once in a window, as the delivery with token 7, and keeps its error."""

    def __init__(self, code: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._code = lambda: async_exceptions.call(code, 7, (), {})
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._code()
        except BaseException as error:
            self.error = error


def test_it_arrives_with_its_words() -> None:
    runner = Runner(lambda: busy(20))
    said = DeadlineExceeded.after(3)

    wait_for(lambda: async_exceptions.raise_in(runner.thread.ident, 7, said), "the window")

    runner.thread.join(20)
    assert isinstance(runner.error, DeadlineExceeded)
    assert str(runner.error) == "the job ran longer than its time limit of 3 s"


def test_it_is_not_raised_for_another_delivery_or_outside_the_window() -> None:
    go = threading.Event()
    runner = Runner(go.wait)
    wait_for(lambda: runner.thread.ident in async_exceptions._open, "the window")

    assert not async_exceptions.raise_in(runner.thread.ident, 8, DeadlineExceeded())
    go.set()
    runner.thread.join()
    assert runner.error is None
    assert not async_exceptions.raise_in(runner.thread.ident, 7, DeadlineExceeded())


def test_one_that_is_late_never_reaches_what_the_thread_does_next() -> None:
    """It hit the next job of the thread, or Celery between the two, and the slot was gone."""
    late, stop = [], threading.Event()

    def turn() -> None:
        async_exceptions.call(lambda: busy(0.0002), 7, (), {})

    def work() -> None:
        while not stop.is_set():
            with contextlib.suppress(DeadlineExceeded):
                turn()
            try:
                busy(0.0002)
            except DeadlineExceeded as error:
                late.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    sent = 0
    ends = time.monotonic() + 60
    while sent < 100 and time.monotonic() < ends:
        sent += async_exceptions.raise_in(thread.ident, 7, DeadlineExceeded())
        time.sleep(0.0001)
    stop.set()
    thread.join()

    assert sent == 100
    assert late == []


def test_one_that_arrives_while_the_window_opens_is_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = async_exceptions._open_for

    def open_and_be_hit(thread: int, token: int) -> None:
        opened(thread, token)
        async_exceptions._sent[thread] = JobCancelled()
        raise async_exceptions.Cancelled

    monkeypatch.setattr(async_exceptions, "_open_for", open_and_be_hit)
    with pytest.raises(JobCancelled):
        async_exceptions.call(lambda: None, 7, (), {})
    assert threading.get_ident() not in async_exceptions._open


def test_a_task_cannot_swallow_what_is_hidden_from_it() -> None:
    """A revoked task that caught every Exception went on, because what ends a Celery task is one."""
    seen: list[type] = []

    def stubborn() -> None:
        while True:
            try:
                busy(1)
            except Exception as error:
                seen.append(type(error))

    runner = Runner(stubborn)
    wait_for(
        lambda: async_exceptions.raise_in(runner.thread.ident, 7, JobCancelled(), hidden=True), "the window"
    )

    runner.thread.join(20)
    assert isinstance(runner.error, JobCancelled)
    assert seen == []


TRACED = """
import sys, threading
from bridge.execution import async_exceptions
from bridge.execution.outcomes import DeadlineExceeded

def task():
    async_exceptions.raise_in(threading.get_ident(), 7, DeadlineExceeded())

try:
    async_exceptions.call(task, 7, (), {})
except DeadlineExceeded:
    pass

def trace(frame, event, _):
    frame.f_trace_opcodes = True
    return trace

sys.settrace(trace)
(lambda: None)()
sys.settrace(None)
print("traced")
"""


def test_python_looks_for_no_exception_after_one_has_been_taken_back() -> None:
    """A tracer of bytecodes never came to an end: such tests hung after those of this file."""
    ran = subprocess.run(
        [sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=20, check=False
    )
    assert ran.stdout == "traced\n", ran.stderr


class LateLock:
    """A lock before which an exception from outside arrives, once: while the window is being shut."""

    def __init__(self, lock: Any) -> None:
        self._lock, self._entered = lock, 0

    def __enter__(self) -> None:
        self._entered += 1
        if self._entered == 2:
            raise DeadlineExceeded.after(3)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_one_that_arrives_while_the_window_is_shut_is_the_tasks_and_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The window stayed open, and the next one hit Celery's code: the job's slot was lost.
    monkeypatch.setattr(async_exceptions, "_lock", LateLock(async_exceptions._lock))

    runner = Runner(lambda: None)
    runner.thread.join(20)

    assert isinstance(runner.error, DeadlineExceeded)
    assert runner.thread.ident not in async_exceptions._open
