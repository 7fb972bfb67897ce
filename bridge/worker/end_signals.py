"""The signals that end a worker (QUIT, a second INT and ``REMAP_SIGTERM=SIGQUIT`` at once), and HUP.

Celery's own handlers cancel the running requests and wait for the pool, both inside the handler. A pool
without processes raises there, a pool process ends its job as a failure, and a job that goes on keeps the
worker. Here each signal only notes what is wanted; :class:`bridge.worker.shutdown.Lifecycle` does the rest.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from billiard.common import REMAP_SIGTERM
from celery import platforms, signals
from celery.apps.worker import safe_say  # type: ignore[attr-defined]
from celery.platforms import EX_FAILURE, EX_OK
from celery.worker import state

from bridge.worker.signal_watch import SignalWatch

LAST_STANDARD_STREAM = 2
CELERYS_RESTART = "restart_worker_sig_handler"
FIRST_INT = "worker: Hitting Ctrl+C again will give back the running jobs at once!"


_watch: SignalWatch | None = None


def install(hostname: str, *, may_block: bool = False) -> None:
    """Take the place of Celery's handlers. Called by the main thread, after Celery has set its own.

    ``may_block``: the main thread runs jobs, and a signal must not wait for their end.
    """

    interrupts = itertools.count()

    def on_int(*_: Any) -> None:
        # Counted in one step, before all else: a second INT may come while this handler runs.
        is_first = next(interrupts) == 0
        if not _is_news("INT"):
            return
        if is_first:
            _say(FIRST_INT)
        end(hostname, "INT", *(("Warm", EX_FAILURE) if is_first else ("Cold", EX_OK)))

    # Celery restarts no worker of a terminal. Its handler ends the worker outside of our shutdown, and waits
    # for running jobs without a limit.
    ours = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
    if getattr(signal.getsignal(signal.SIGHUP), "__name__", "") == CELERYS_RESTART:
        ours.append(signal.SIGHUP)
        platforms.signals["SIGHUP"] = _warm(hostname, "HUP")
    platforms.signals["SIGINT"] = on_int
    platforms.signals["SIGQUIT"] = _cold(hostname, "QUIT")
    remapped = REMAP_SIGTERM == "SIGQUIT"
    platforms.signals["SIGTERM"] = _cold(hostname, "TERM") if remapped else _warm(hostname, "TERM")
    if may_block:
        _watch_signals(hostname, ours, remapped=remapped)


def _watch_signals(hostname: str, numbers: list[signal.Signals], *, remapped: bool) -> None:
    global _watch

    def late(number: int, times: int) -> None:
        name = signal.Signals(number).name.removeprefix("SIG")
        cold = name == "QUIT" or (name == "INT" and times > 1) or (name == "TERM" and remapped)
        end(hostname, name, "Cold" if cold else "Warm", EX_FAILURE if name == "INT" and not cold else EX_OK)

    if _watch is None:
        _watch = SignalWatch(numbers, late)


def _is_news(name: str) -> bool:
    """Whether the watch has not acted on this signal yet, in place of its handler."""
    return _watch is None or _watch.claim(signal.Signals[f"SIG{name}"])


def _warm(hostname: str, name: str) -> Callable[..., None]:
    return _handler(hostname, name, "Warm")


def _cold(hostname: str, name: str) -> Callable[..., None]:
    return _handler(hostname, name, "Cold")


def _handler(hostname: str, name: str, how: str) -> Callable[..., None]:
    def on_signal(*_: Any) -> None:  # of this module, by which a forked child finds it
        if _is_news(name):
            end(hostname, name, how, EX_OK)

    return on_signal


def end(hostname: str, name: str, how: str, status: int) -> None:
    """End this worker as the signal ``name`` does; ``how`` is ``Warm`` or ``Cold``."""
    _say(f"worker: {how} shutdown (MainProcess)")
    try:
        signals.worker_shutting_down.send(sender=hostname, sig=f"SIG{name}", how=how, exitcode=status)
    finally:
        # Always "stop": "terminate" has the pool wait, or fail, for jobs that the lifecycle gives back.
        state.should_stop = status  # type: ignore[assignment]


def start_again() -> None:
    """Replace this process by a new worker with the same command line. Pool processes see their pipe end."""
    # Closed by the exec itself: a thread of the pool that finds its pipe closed before ends this process.
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > LAST_STANDARD_STREAM:
            with contextlib.suppress(OSError):
                os.set_inheritable(number, False)
    os.execv(sys.executable, [sys.executable, *_command_line()])  # nosec B606


def _command_line() -> list[str]:
    """``-D``, ``celery multi`` and ``bridge up`` start a worker by ``-m``: its file alone does not run."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return sys.argv if spec is None else ["-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]]


def exit_now(worker: Any, status: int) -> None:
    """Exit without what Celery or Python would still wait for. Celery's own pidfile goes all the same."""
    if worker.pidlock:
        with contextlib.suppress(OSError):
            worker.pidlock.release()
    os._exit(status)


def _say(text: str) -> None:
    with contextlib.suppress(ValueError):  # a job has closed this process's standard output
        safe_say(text, sys.__stdout__)
