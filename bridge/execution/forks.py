"""The child of a job that forks owns neither this process's signals nor its jobs.

``multiprocessing`` and ``os.fork`` copy the worker. Its handlers would drain "the worker" when the child gets
TERM, its greenlets would fetch over the parent's connections, and a child that leaves the task's code would
settle the parent's job. Hooks of each fork prevent the first two, :func:`leave` the third.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import NoReturn

#: How many forks lie between the first process and this one. A run that ends under another number than it
#: began with is in a child of its own.
generation = 0

#: Whose handlers mean the worker, or one of its pool processes.
_OURS = ("bridge.", "celery.", "billiard.")
_NUMBERS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP,
    signal.SIGTSTP, signal.SIGTTIN, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip


def leave() -> NoReturn:
    """End this child where its task's code has ended: with the status that a script would have."""
    error = sys.exc_info()[1]
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            status = 1
            traceback.print_exception(error)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status & 0xFF)


def _in_child() -> None:
    global generation
    generation += 1
    _forget_greenlets()
    for number in _NUMBERS:
        handler = signal.getsignal(number)
        if callable(handler) and str(getattr(handler, "__module__", "")).startswith(_OURS):
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def _forget_greenlets() -> None:
    """The hub of gevent would go on with all of the parent's greenlets. A new one begins without any.

    The old one is not destroyed: that switches to the parent's main greenlet, which would end a worker.
    """
    local = sys.modules.get("gevent._hub_local")
    if local is not None and local.get_hub_if_exists() is not None:
        local.set_hub(sys.modules["gevent.hub"].Hub(default=False))


os.register_at_fork(after_in_child=_in_child)
