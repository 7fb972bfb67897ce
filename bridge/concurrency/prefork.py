"""The prefork pool, with queues that a killed process cannot lock permanently.

billiard's queues are pipes behind semaphores, and an idle pool process holds that of the way in while it
waits for work. A process that is killed never lets go: all the others wait without end, and the jobs of
the pool stay in flight. A file lock is taken off a dead process by the kernel.
"""

from __future__ import annotations

import fcntl
import functools
import importlib
import os
import signal
import tempfile
import threading
import time
from typing import Any

import billiard.pool
from billiard.common import TERM_SIGNAL
from celery import signals
from celery.concurrency import prefork

from bridge.concurrency.size import at_least_one, positive
from bridge.execution import pool_processes
from bridge.execution.request import SidekiqRequest
from bridge.execution.returned import Returned
from bridge.fast_path import retry_tracer
from bridge.sidecar import schema
from bridge.sidekiq.outcome.decision import Done

Pool: Any = billiard.pool.Pool

#: How long the code of a job may unwind in a pool process that is told to end.
UNWIND_SECONDS = 0.5

_parent_pipe: tuple[int, int] | None = None
_parent_pid = 0
_application: Any = None


class FileLock:
    """Exclusive among processes, not among threads: a pool process reads and writes in one thread."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the pool lives

    def acquire(self) -> None:
        """Wait for it."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        """Let go."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class MortalPool(Pool):  # type: ignore[misc]
    """billiard's pool, whose processes may be killed at any moment.

    Its supervisor's thread replaces processes that have ended, and the thread of ``--autoscale`` does so
    after it has changed their number. They must not do so at once: one would take a process that the other
    is about to start for one that has ended, and billiard would end the worker.
    """

    def _setup_queues(self) -> None:
        self._maintenance = threading.Lock()
        super()._setup_queues()
        self._inqueue._rlock = FileLock()
        self._outqueue._wlock = FileLock()

    def _maintain_pool(self) -> None:
        with self._maintenance:
            super()._maintain_pool()


class PreforkPool(prefork.TaskPool):
    """Celery's prefork pool on it. It uses ``BlockingPool`` without an event loop."""

    BlockingPool: Any = MortalPool
    _pool: Any
    limit: int
    num_processes: int

    def on_start(self) -> None:
        """Start the processes."""
        super().on_start()
        self._grow, self._shrink = self._pool.grow, self._pool.shrink
        self._apply = self._pool.apply_async
        self.on_apply = self._apply_with_result  # type: ignore[method-assign]
        self.grow, self.shrink = self._checked_grow, self._checked_shrink

    def _apply_with_result(self, *args: Any, callback: Any = None, **kwargs: Any) -> Any:
        """The result that a run reports goes ahead of Celery's own callback, which settles the job."""
        request = getattr(callback, "__self__", None)
        if isinstance(request, SidekiqRequest) and request.delivery.is_reported:
            callback = functools.partial(_receive, request, callback)
        return self._apply(*args, callback=callback, **kwargs)

    def _checked_grow(self, n: int = 1) -> None:
        self._grow(positive(n))
        self.limit = self.num_processes

    def _checked_shrink(self, n: int = 1) -> None:
        """billiard would end all idle processes before it says that these are too few."""
        at_least_one(self.num_processes - positive(n))
        idle = sum(1 for _ in self._pool._iterinactive())
        if idle < n:
            raise ValueError(f"only {idle} of {self.num_processes} pool processes are idle")
        self._shrink(n)
        self.limit = self.num_processes

    def end_processes(self) -> None:
        """End the pool's processes: their jobs go to other workers, and must not run there beside these."""
        pids = [process.pid for process in self._pool._pool] if self._pool is not None else []
        for pid in pids:
            pool_processes.signal_running(pid, TERM_SIGNAL)
        deadline = time.monotonic() + UNWIND_SECONDS
        while any(map(pool_processes.is_running, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in pids:
            pool_processes.signal_running(pid, signal.SIGKILL)


def _receive(request: SidekiqRequest, callback: Any, ended: Any) -> Any:
    """``ended``: whether the run failed, the text of its result, and its time, as Celery's tracer says."""
    failed, text, _ = ended
    if not failed and isinstance(text, Returned):
        request.fetcher.in_flight.decide(request.delivery.token, Done(text.result))
    return callback(ended)


def prepare(app: Any, worker: Any) -> None:
    """Set up what must exist before the pool's processes do."""
    global _parent_pipe, _parent_pid, _application
    _application = app
    _parent_pid = os.getpid()
    _parent_pipe = os.pipe()
    _ = app.bridge.lease  # pool processes look at what their parent knows of it
    if worker.pool_cls is prefork.TaskPool:
        worker.pool_cls = PreforkPool
        # Pool processes share the pages of what is made before the fork; each asks the sidecars.
        importlib.import_module("bridge.sidecar.requests_session")
        schema.build(schema.OUTCOME)
    signals.worker_process_init.connect(guard_tracers, weak=False)
    app.bridge.attach_pool(worker.pool_cls)  # its processes are forked before it is there
    if worker.pool_cls.__module__.endswith(".solo"):
        # The prefetch count follows -c, but this pool runs one job at a time.
        app.bridge.fetcher.in_flight.limit_slots(1)


def guard_tracers(**_: Any) -> None:
    """In a pool process: no hook of a task ends it, or leaves its job without an outcome."""
    if _application is not None and os.getpid() != _parent_pid:
        retry_tracer.guard(_application)


def watch_parent(**_: Any) -> None:
    """In a pool process: die with the parent, whose jobs another worker takes over.

    Not PR_SET_PDEATHSIG: that fires when the *thread* that forked ends, in the middle of a warm shutdown.
    """
    if _parent_pipe is None or os.getpid() == _parent_pid:
        return  # the solo pool sends this signal too, from the parent itself
    reader, writer = _parent_pipe
    os.close(writer)
    threading.Thread(target=_die_at_eof, args=(reader,), name="bridge-parent", daemon=True).start()


def _die_at_eof(reader: int) -> None:
    while os.read(reader, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
