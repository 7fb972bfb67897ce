"""How a worker ends: quiet, wait, interrupt, give back, go. Celery alone waits without end."""

from __future__ import annotations

import _thread
import atexit
import faulthandler
import itertools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.worker import state

from bridge.errors import EX_SOFTWARE, StoreError
from bridge.execution.cancellation import Cancellation
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.process.heartbeat import Heartbeat
from bridge.worker import end_signals
from bridge.worker.end_requests import EndRequests

logger = logging.getLogger(__name__)

#: How long interrupted jobs may take to end before they are given back all the same; Sidekiq's own number.
GRACE_SECONDS = 3.0
LOOK_SECONDS = 0.05
#: How long an idle pool may take to end, and then the rest of the process: exit handlers, and what jobs left
#: behind (threads and processes that Python waits for without a limit).
EXIT_SECONDS = 5.0


class Lifecycle:
    """Ends one worker process, within a bounded time under every pool."""

    def __init__(
        self,
        fetcher: Fetcher,
        timeout_seconds: float,
        interrupt: Callable[[], None],
        release: Callable[[], None] = lambda: None,
        ask_to_stop: Callable[[], None] = lambda: None,
        *,
        end_runs: Callable[[], None] = lambda: None,
        soft_seconds: float = 0.0,
        exit_process: Callable[[int], None] = os._exit,
    ) -> None:
        """``release`` pushes the due entries that the scheduler has taken; ``end_runs`` ends pool processes.

        ``ask_to_stop`` asks running jobs to stop at their next checkpoint; it may block.
        ``soft_seconds`` is Celery's ``worker_soft_shutdown_timeout``: how long the first QUIT waits.
        """
        self._release = release
        self._ask_to_stop = ask_to_stop
        self._questions = itertools.count()
        self._fetcher = fetcher
        self._timeout = timeout_seconds
        self._interrupt = interrupt
        self._heartbeat: Heartbeat | None = None
        self._end_runs = end_runs
        self._exit_process = exit_process
        self._pid = os.getpid()
        self._requests = EndRequests(soft_seconds)
        self._is_ending = False
        self._ends = itertools.count()
        self._finished = threading.Event()
        self._cancellation: Cancellation | None = None
        signals.worker_shutting_down.connect(self._on_shutting_down, weak=False)

    def attach(self, heartbeat: Heartbeat, cancellation: Cancellation) -> None:
        """The heartbeat to tell of a change, and who knows of jobs that do not end."""
        self._heartbeat = heartbeat
        self._cancellation = cancellation

    def give_up(self, reason: str) -> None:
        """This worker is of no more use: drain as after TERM, then exit with a status that says so."""
        if self._is_ending:
            return
        logger.critical("%s: this worker ends, for another to start with all of them", reason)
        state.should_stop = EX_SOFTWARE  # type: ignore[assignment]
        signals.worker_shutting_down.send(sender=None, sig="TERM", how="Warm", exitcode=EX_SOFTWARE)

    def on_signal(self, name: str) -> None:
        """A signal from the Web UI: the same as one from the system."""
        logger.info("got %s from the Web UI", name)
        if name == "TSTP":
            self.quiet()
        elif name == "TERM":
            os.kill(os.getpid(), signal.SIGTERM)
        elif name == "TTIN":
            dump_threads()

    def quiet(self) -> None:
        """Take no more jobs, and ask running ones to stop at their next checkpoint; the others go on."""
        self._fetcher.quiet()
        if self._heartbeat is not None:
            self._heartbeat.hurry()
        if next(self._questions) == 0:  # one step, as handlers of signals nest
            _thread.start_new_thread(self._ask, ())  # see _on_shutting_down

    def _on_shutting_down(self, how: str = "Warm", exitcode: int = 0, sig: str = "", **_: Any) -> None:
        """This process got a signal to end. Runs inside the signal handler: only flags and a thread."""
        if os.getpid() != self._pid:
            return  # a child that a job has forked: the jobs are its parent's
        self._requests.add(sig, how, exitcode)
        self._is_ending = True
        self._fetcher.stop()
        self.quiet()
        if next(self._ends) == 0:
            atexit.register(self._exit)  # if Celery's own shutdown fails on its way to it
            # Not Thread.start(): it waits for the thread, which a signal handler under gevent must not.
            _thread.start_new_thread(self._end, ())

    def finish(self) -> None:
        """Celery's own shutdown came to its end: leave no key behind."""
        if self._finished.is_set() or os.getpid() != self._pid:
            return
        self._finished.set()
        self._leave()

    def _exit(self) -> None:
        self.finish()
        self._restart()

    # -- in a thread of its own

    def _ask(self) -> None:
        try:
            self._ask_to_stop()
        except Exception:
            # A sidecar that is away runs none of our jobs, or interrupts them by itself.
            logger.exception("could not ask the running jobs to stop at a checkpoint")

    # -- in the shutdown's thread

    def _end(self) -> None:
        self._fetcher.in_flight.give_back_set_aside()
        self._fetcher.flush()
        if self._await_idle(self._timeout) and self._fetcher.idle:
            if not self._finished.wait(EXIT_SECONDS):  # Celery's own shutdown does the rest
                self._end_runs()
        else:
            self._interrupt_running()
            self._await_idle(0.0 if self._requests.is_cold else GRACE_SECONDS, heed_cold=False)
            self._end_runs()
            self._give_back()
        # The pool may wait for a thread that will never end; what it ran is given back, so nothing is lost by
        # going.
        if self._finished.wait(GRACE_SECONDS / 3):
            time.sleep(EXIT_SECONDS)
            logger.warning("going without what jobs have left behind: %s", ", ".join(left_behind()))
        self.finish()
        logging.shutdown()
        self._restart()
        self._exit_process(self._requests.status)

    def _restart(self) -> None:
        if self._requests.restarts and os.getpid() == self._pid:
            end_signals.start_again()

    def _await_idle(self, seconds: float, *, heed_cold: bool = True) -> bool:
        deadline = time.monotonic() + seconds
        while not self._is_idle():
            if time.monotonic() >= deadline or (heed_cold and self._requests.is_cold):
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _is_idle(self) -> bool:
        """Whether nothing is left to wait for: not for jobs that do not end, either."""
        cancellation, held = self._cancellation, list(self._fetcher.in_flight.held)
        if cancellation is None or not held or len(self._fetcher.journal):
            return self._fetcher.idle
        return all(cancellation.may_be_left(token) for token in held)

    def _interrupt_running(self) -> None:
        # In a thread of its own: a sidecar that accepts and does not answer must not keep the jobs from being
        # given back before its supervisor loses patience and kills this process.
        asking = threading.Thread(target=self._try_interrupt, name="bridge-interrupt", daemon=True)
        asking.start()
        asking.join(GRACE_SECONDS)

    def _try_interrupt(self) -> None:
        try:
            self._interrupt()
        except Exception:
            # Whatever keeps the sidecar from hearing us, the jobs must still be given back.
            logger.exception("could not interrupt the running jobs")

    def _give_back(self) -> None:
        self._fetcher.in_flight.give_back_set_aside()
        if self._cancellation is not None:
            self._cancellation.write_off()
        left = list(self._fetcher.in_flight.held.values())
        if left:
            logger.warning("giving back %d jobs that did not end in time", len(left))
            self._fetcher.in_flight.give_back_all(left)
        self._write_settlements()

    def _write_settlements(self) -> None:
        """Also through a short outage: what is not written now runs a second time."""
        deadline = time.monotonic() + GRACE_SECONDS
        while not self._fetcher.flush(last=True) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def _leave(self) -> None:
        # HUP and `control shutdown` end in order without a word to this class: nothing may stay in flight.
        self._give_back()
        try:
            if self._heartbeat is not None:
                self._heartbeat.beat()
                self._heartbeat.clear()
            self._release()
            self._fetcher.lease.leave()
        except StoreError as error:
            logger.warning("could not sign off: %s; what this worker holds is given back by others", error)


def left_behind() -> list[str]:
    """Names of the threads and child processes that keep this process from its end."""
    threads = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    library = sys.modules.get("multiprocessing")
    processes = [] if library is None else [f"process {p.pid}" for p in library.active_children()]
    return [*threads, *processes] or ["an exit handler"]


def dump_threads() -> None:
    """Write every thread's stack to stderr, as Sidekiq does for TTIN."""
    try:
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
    except ValueError:
        faulthandler.dump_traceback(2, all_threads=True)  # a job has closed the object, not the descriptor
