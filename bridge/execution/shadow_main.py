"""The process in which the shadows of one worker run: it loads the worker's tasks, and waits for jobs.

Started by :mod:`bridge.moves.dry_runs` with the number of a socket. It ends with the other end of the socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, NoReturn

from bridge.errors import PushRefused
from bridge.moves import comparison
from bridge.moves.frames import Frames, packed

_MOST_BYTES = 65_536
#: From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
#: While it loads the tasks, and while they run.
_LOADING, _RUNNING = 10, 19


def main() -> None:
    """Run shadows until the worker ends."""
    # The worker ends this process when it is time; a service manager tells both.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _end_with_worker()
    _lower_priority(_LOADING)
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.setblocking(True)  # gevent's sockets never block
    frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(channel, frames), daemon=True).start()
    origin = json.loads(frames.get())
    try:
        app = load(origin)
    except BaseException as error:
        channel.sendall(packed(json.dumps({"error": comparison.of_error(error).error}).encode()))
        return
    _lower_priority(_RUNNING)
    channel.sendall(packed(b"{}"))
    while True:
        compared = _run(app, frames.get(), frames.get(), show_args=bool(origin["show_args"]))
        channel.sendall(packed(json.dumps(asdict(compared)).encode()))


def load(origin: Mapping[str, Any]) -> Any:
    """The application of the worker, with its tasks. Pushes are refused from then on."""
    sys.path[:] = origin["path"]
    from celery import signals
    from celery.app.utils import find_app

    app: Any = find_app(origin["app"]) if origin["app"] else importlib.import_module("bridge.celery").app
    app.loader.import_default_modules()
    for name in origin["modules"]:
        importlib.import_module(name)
    app.finalize()
    _refuse_pushes(app)
    app.log.setup(loglevel="WARNING", redirect_stdouts=False)
    signals.worker_process_init.send(sender=None)
    return app


def _run(app: Any, payload: bytes, ruby: bytes, *, show_args: bool) -> comparison.Compared:
    from bridge.execution import shadow
    from bridge.sidekiq.payload.job import SidekiqJob

    job = SidekiqJob.parse(payload)
    began = time.process_time()
    python = comparison.of_call(partial(shadow.dry_run, app, job))
    cpu = time.process_time() - began
    return comparison.compare(
        comparison.of_told(ruby), python, job.args, show_args=show_args, cpu_seconds=cpu
    )


def _refuse_pushes(app: Any) -> None:
    """A job that a shadow pushes would run twice: the real run has pushed it."""
    from bridge.batches.chords import Chords

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise PushRefused("a shadow pushes no job: push only where self.is_shadow is false")

    app.send_task = refuse
    app.Batch = refuse
    chords: Any = Chords
    chords.ensure_chords_allowed = refuse


def _end_with_worker() -> None:
    """Have the kernel end this process, too: a task that holds the interpreter keeps ``_read`` from its turn.

    The kernel does so with the worker's thread of the shadows. That thread lasts as long as they do.
    """
    with contextlib.suppress(OSError, AttributeError):  # a system without prctl
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _lower_priority(nice: int) -> None:
    """Below all real jobs. The kernel ends this process first, where memory is short."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _read(channel: socket.socket, frames: queue.SimpleQueue[bytes]) -> None:
    """In a thread of its own: the end of the worker ends a dry run that hangs."""
    found = Frames()
    with contextlib.suppress(OSError):
        while data := channel.recv(_MOST_BYTES):
            found.feed(data)
            while (frame := found.take()) is not None:
                frames.put(frame)
    os._exit(0)
