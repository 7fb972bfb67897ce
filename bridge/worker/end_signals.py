"""The signals that end a worker at once: QUIT, a second INT, and TERM with ``REMAP_SIGTERM=SIGQUIT``.

Celery's own handlers cancel the running requests and wait for the pool, both inside the handler. A pool
without processes raises there, a pool process ends its job as a failure, and a job that goes on keeps the
worker. Here each signal only notes what is wanted; :class:`bridge.worker.shutdown.Lifecycle` does the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from billiard.common import REMAP_SIGTERM
from celery import platforms, signals
from celery.apps.worker import safe_say  # type: ignore[attr-defined]
from celery.platforms import EX_FAILURE, EX_OK
from celery.worker import state

FIRST_INT = "worker: Hitting Ctrl+C again will give back the running jobs at once!"


def install(hostname: str) -> None:
    """Take the place of Celery's handlers. Called by the main thread, after Celery has set its own."""

    def on_first_int(*_: Any) -> None:
        safe_say(FIRST_INT, sys.__stdout__)
        platforms.signals["SIGINT"] = _cold(hostname, "INT")
        end(hostname, "INT", "Warm", EX_FAILURE)

    platforms.signals["SIGINT"] = on_first_int
    platforms.signals["SIGQUIT"] = _cold(hostname, "QUIT")
    if REMAP_SIGTERM == "SIGQUIT":
        platforms.signals["SIGTERM"] = _cold(hostname, "TERM")


def _cold(hostname: str, name: str) -> Callable[..., None]:
    return lambda *_: end(hostname, name, "Cold", EX_OK)


def end(hostname: str, name: str, how: str, status: int) -> None:
    """End this worker as the signal ``name`` does; ``how`` is ``Warm`` or ``Cold``."""
    safe_say(f"worker: {how} shutdown (MainProcess)", sys.__stdout__)
    try:
        signals.worker_shutting_down.send(sender=hostname, sig=f"SIG{name}", how=how, exitcode=status)
    finally:
        # Always "stop": "terminate" has the pool wait, or fail, for jobs that the lifecycle gives back.
        state.should_stop = status  # type: ignore[assignment]
