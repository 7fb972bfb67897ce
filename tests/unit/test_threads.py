from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.concurrency.threads import NativeThreads, Run
from bridge.execution.call import Call, apply

GENEROUS_SECONDS = 30.0


@pytest.fixture
def threads() -> Iterator[NativeThreads]:
    made = NativeThreads(4)
    yield made
    made.stop()


def call(work: Callable[[], Any], done: Callable[[Any], None] = lambda result: None) -> Run:
    return lambda: apply(Call(lambda: work(), (), None, done, None))


class Counter:
    """Counts calls, and can be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self.changed = threading.Condition()

    def add(self, _: Any = None) -> None:
        with self.changed:
            self.count += 1
            self.changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.count >= count, GENEROUS_SECONDS)


def test_every_run_is_run_once(threads: NativeThreads) -> None:
    ran, done = Counter(), Counter()
    for _ in range(2000):
        threads.submit(call(ran.add, done.add))
    done.wait_for(2000)
    assert ran.count == 2000


def test_runs_that_wait_get_all_slots_at_once(threads: NativeThreads) -> None:
    together, done = threading.Barrier(4), Counter()
    for _ in range(8):
        threads.submit(call(lambda: together.wait(GENEROUS_SECONDS), done.add))
    done.wait_for(8)
    assert threads.count == 4


def test_a_run_that_comes_while_others_wait_does_not_wait_for_them(threads: NativeThreads) -> None:
    go, started, done = threading.Event(), Counter(), Counter()

    def wait() -> None:
        started.add()
        assert go.wait(GENEROUS_SECONDS)

    for number in range(3):
        threads.submit(call(wait))
        started.wait_for(number + 1)
    threads.submit(call(lambda: None, done.add))
    done.wait_for(1)
    go.set()


def test_no_more_threads_are_made_than_the_limit(threads: NativeThreads) -> None:
    done = Counter()
    for _ in range(500):
        threads.submit(call(lambda: None, done.add))
    done.wait_for(500)
    assert 1 <= threads.count <= 4


def test_a_run_that_breaks_costs_no_thread(threads: NativeThreads) -> None:
    done = Counter()

    def broken(_: Any) -> None:
        raise RuntimeError("a fault of the callback")

    for _ in range(8):
        threads.submit(call(lambda: None, broken))
    threads.submit(call(lambda: None, done.add))
    done.wait_for(1)


def test_stopping_ends_idle_and_busy_threads() -> None:
    threads, go, started = NativeThreads(2), threading.Event(), Counter()

    def wait() -> None:
        started.add()
        assert go.wait(GENEROUS_SECONDS)

    before = set(threading.enumerate())
    for number in range(2):
        threads.submit(call(wait))
        started.wait_for(number + 1)
    mine = [thread for thread in threading.enumerate() if thread not in before]
    threads.stop()
    go.set()
    for thread in mine:
        thread.join(GENEROUS_SECONDS)
    assert len(mine) == 2
    assert not any(thread.is_alive() for thread in mine)
    assert threads.busy == 0


# -- where the system gives no more threads


def refuse(patch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    patch.setattr(threading.Thread, "start", start)


def test_a_thread_that_cannot_be_started_keeps_no_run_waiting_for_ever(
    threads: NativeThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, started, done = threading.Event(), Counter(), Counter()

    def wait() -> None:
        started.add()
        assert go.wait(GENEROUS_SECONDS)

    threads.submit(call(wait, done.add))
    started.wait_for(1)
    with monkeypatch.context() as patch:
        refuse(patch)
        threads.submit(call(lambda: None, done.add))
    go.set()
    done.wait_for(2)
    assert threads.count == 1

    go.clear()
    for number in range(2):
        threads.submit(call(wait, done.add))
        started.wait_for(2 + number)
    go.set()
    done.wait_for(4)


def test_a_run_that_no_thread_can_take_is_refused_and_never_run(
    threads: NativeThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, done = Counter(), Counter()
    with monkeypatch.context() as patch:
        refuse(patch)
        with pytest.raises(RuntimeError, match="new thread"):
            threads.submit(call(ran.add, done.add))
    assert threads.busy == 0

    threads.submit(call(lambda: None, done.add))
    done.wait_for(1)
    assert ran.count == 0
