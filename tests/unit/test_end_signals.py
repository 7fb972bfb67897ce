"""Signals that end a worker: their handlers nest, in any order, and each signal counts once."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from celery.worker import state

from bridge.errors import EX_SOFTWARE
from bridge.worker import end_signals, shutdown, signal_watch
from bridge.worker.end_requests import EndRequests
from bridge.worker.shutdown import Lifecycle
from bridge.worker.signal_watch import SignalWatch
from tests.support.nested import run_nested
from tests.support.waiting import wait_until_equal

QUIT = signal.SIGQUIT
#: More than the longest handler has.
MOST_STEPS = 2_000


class EndingWorker:
    """The handlers of a worker and its lifecycle, without a process that ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handlers: dict[str, Callable[..., None]] = {}
        self.threads: list[str] = []
        self.restarts = 0
        with monkeypatch.context() as during:
            during.setattr(end_signals.platforms, "signals", self.handlers)
            celerys = SimpleNamespace(__name__=end_signals.CELERYS_RESTART)
            during.setattr(end_signals.signal, "getsignal", lambda _: celerys)
            end_signals.install("host")
        fetcher = SimpleNamespace(stop=lambda: None, quiet=lambda: None)
        self.lifecycle = Lifecycle(fetcher, 5.0, lambda: None, soft_seconds=60.0)  # type: ignore[arg-type]
        self.lifecycle.finish = lambda: None  # type: ignore[method-assign]

    def get(self, name: str) -> Callable[[], None]:
        """Its handler of the signal ``name``."""
        return lambda: self.handlers[f"SIG{name}"](0, None)

    def exit(self) -> None:
        """The process comes to its end."""
        self.lifecycle._exit()

    def close(self) -> None:
        signals.worker_shutting_down.disconnect(self.lifecycle._on_shutting_down)


@pytest.fixture
def make_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], EndingWorker]]:
    made: list[EndingWorker] = []

    def make() -> EndingWorker:
        if made:
            made[-1].close()
        made.append(EndingWorker(monkeypatch))
        return made[-1]

    def start_again() -> None:
        made[-1].restarts += 1

    # Lifecycles of other tests hear the signal too: each handler would have their steps.
    monkeypatch.setattr(signals.worker_shutting_down, "receivers", [])
    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(end_signals, "_say", lambda _: None)
    monkeypatch.setattr(end_signals, "start_again", start_again)
    monkeypatch.setattr(shutdown.atexit, "register", lambda _: None)
    monkeypatch.setattr(
        shutdown._thread, "start_new_thread", lambda function, _: made[-1].threads.append(function.__name__)
    )
    yield make
    made[-1].close()


def each_order(
    make: Callable[[], EndingWorker], outer: str, inner: str
) -> Iterator[tuple[int, EndingWorker]]:
    """A worker for each step of the first handler before which the second one runs."""
    for step in range(MOST_STEPS):
        worker = make()
        if not run_nested(worker.get(outer), worker.get(inner), step, os.path.join("bridge", "worker")):
            assert step > 50, "the handler was not traced"
            return
        yield step, worker
    raise AssertionError(f"a handler has more than {MOST_STEPS} steps")


@pytest.mark.parametrize("end", ["TERM", "INT", "QUIT"])
@pytest.mark.parametrize("is_outer", [True, False], ids=["HUP-within", "HUP-around"])
def test_a_worker_that_is_told_to_end_never_starts_again_wherever_a_hup_comes(
    make_worker: Callable[[], EndingWorker], end: str, is_outer: bool
) -> None:
    """A HUP between two lines of TERM's handler found neither TERM nor an end, and started a new worker."""
    for step, worker in each_order(make_worker, *((end, "HUP") if is_outer else ("HUP", end))):
        worker.exit()
        assert worker.restarts == 0, step
        assert sorted(worker.threads) == ["_ask", "_end"], step


def test_a_worker_starts_again_for_hup_alone(make_worker: Callable[[], EndingWorker]) -> None:
    for step, worker in each_order(make_worker, "HUP", "HUP"):
        worker.exit()
        assert worker.restarts == 1, step
        assert sorted(worker.threads) == ["_ask", "_end"], step


@pytest.mark.parametrize(("outer", "inner"), [("INT", "INT"), ("QUIT", "QUIT")])
def test_a_second_signal_within_the_first_is_a_second_one(
    make_worker: Callable[[], EndingWorker], outer: str, inner: str
) -> None:
    """INT: its handler was still the first one's. QUIT: the soft time of the first replaced the second's."""
    for step, worker in each_order(make_worker, outer, inner):
        if outer == "INT":  # the first cold signal has the soft time
            assert worker.lifecycle._requests._cold_at, step
        else:
            assert worker.lifecycle._requests.is_cold, step


def test_the_first_cold_signal_has_the_soft_time_and_the_second_none() -> None:
    requests = EndRequests(60.0)
    requests.add("SIGQUIT", "Cold", 0)
    assert not requests.is_cold
    requests.add("SIGQUIT", "Cold", 0)
    assert requests.is_cold


def test_the_status_of_a_worker_that_gives_up_is_final() -> None:
    for statuses in itertools.permutations([EX_SOFTWARE, 0, 1]):
        requests = EndRequests()
        for status in statuses:
            requests.add("TERM", "Warm", status)
        assert requests.status == EX_SOFTWARE


@pytest.fixture
def make_watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], Any]]:
    before = signal.signal(QUIT, lambda *_: None)

    def make(handler_seconds: float) -> Any:
        monkeypatch.setattr(signal_watch, "HANDLER_SECONDS", handler_seconds)
        monkeypatch.setattr(signal_watch.os, "register_at_fork", lambda **_: None)
        late: list[tuple[int, int]] = []
        return SimpleNamespace(watch=SignalWatch([QUIT], lambda *told: late.append(told)), late=late)

    yield make
    os.close(signal.set_wakeup_fd(-1))  # the end of the watch's thread
    signal.signal(QUIT, before)


def test_a_handler_that_runs_after_the_watch_has_acted_does_not_act_again(
    make_watch: Callable[[float], Any],
) -> None:
    """One QUIT counted as two: with a soft shutdown, a job of solo lost its time after its call of C."""
    made = make_watch(0.01)
    signal.raise_signal(QUIT)
    wait_until_equal(lambda: made.late, [(QUIT, 1)], "the watch to act")
    assert made.watch.claim(QUIT) is False


def test_the_watch_acts_for_the_second_of_two_signals_that_one_handler_run_answers(
    make_watch: Callable[[float], Any],
) -> None:
    made = make_watch(0.3)
    signal.raise_signal(QUIT)
    signal.raise_signal(QUIT)
    assert made.watch.claim(QUIT) is True
    wait_until_equal(lambda: made.late, [(QUIT, 2)], "the watch to act")
