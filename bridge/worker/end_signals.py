"""The signals that end a worker (QUIT, a second INT and ``REMAP_SIGTERM=SIGQUIT`` at once), and HUP.

Celery's own handlers cancel the running requests and wait for the pool, both inside the handler. A pool
without processes raises there, a pool process ends its job as a failure, and a job that goes on keeps the
worker. Here each signal only notes what is wanted; :class:`bridge.worker.shutdown.Lifecycle` does the rest.
"""

from __future__ import annotations

import contextlib
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

RESTART = "SIGHUP"
CELERYS_RESTART = "restart_worker_sig_handler"
FIRST_INT = "worker: Hitting Ctrl+C again will give back the running jobs at once!"


def install(hostname: str) -> None:
    """Take the place of Celery's handlers. Called by the main thread, after Celery has set its own."""

    def on_first_int(*_: Any) -> None:
        _say(FIRST_INT)
        platforms.signals["SIGINT"] = _cold(hostname, "INT")
        end(hostname, "INT", "Warm", EX_FAILURE)

    # Celery restarts no worker of a terminal. Its handler ends the worker outside of our shutdown, and waits
    # for running jobs without a limit.
    if getattr(signal.getsignal(signal.SIGHUP), "__name__", "") == CELERYS_RESTART:
        platforms.signals["SIGHUP"] = lambda *_: end(hostname, "HUP", "Warm", EX_OK)
    platforms.signals["SIGINT"] = on_first_int
    platforms.signals["SIGQUIT"] = _cold(hostname, "QUIT")
    remapped = REMAP_SIGTERM == "SIGQUIT"
    platforms.signals["SIGTERM"] = _cold(hostname, "TERM") if remapped else _warm(hostname, "TERM")


def _warm(hostname: str, name: str) -> Callable[..., None]:
    return lambda *_: end(hostname, name, "Warm", EX_OK)


def _cold(hostname: str, name: str) -> Callable[..., None]:
    return lambda *_: end(hostname, name, "Cold", EX_OK)


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
    keep: Any = [sys.__stdin__, sys.__stdout__, sys.__stderr__]
    platforms.close_open_fds(keep)
    os.execv(sys.executable, [sys.executable, *sys.argv])  # nosec B606


def _say(text: str) -> None:
    with contextlib.suppress(ValueError):  # a job has closed this process's standard output
        safe_say(text, sys.__stdout__)
