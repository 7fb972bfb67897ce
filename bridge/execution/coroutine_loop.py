"""The event loop of coroutine tasks: one for each process, in a thread of its own.

The first coroutine starts it, so a worker without coroutines pays nothing. Under the own pool a coroutine
holds no thread. A pool that runs Celery's tracer waits in its own thread for the coroutine's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

from bridge.execution.coroutine_run import CoroutineRun, share_stacks
from bridge.execution.coroutine_watch import CoroutineWatch

logger = logging.getLogger(__name__)

#: How long a coroutine may tidy up when its thread or process has to go on.
TIDY_SECONDS = 3.0

Start = Callable[[], Coroutine[Any, Any, None]]


class CoroutineLoop:
    """Public methods may be called by any thread, ``result`` on the loop only."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._thread: threading.Thread | None = None
        self._starting: deque[Start] = deque()
        self._called = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: dict[int, CoroutineRun] = {}
        """By the token of their delivery."""

    @property
    def running(self) -> int:
        """How many coroutines have begun, or are about to."""
        return len(self._starting) + len(self._tasks)

    def start(self, begin: Start) -> None:
        """Await ``begin()`` on the loop, as a task with a context of its own. It raises nothing."""
        loop = self._ready_loop()
        self._starting.append(begin)
        if not self._called:
            self._called = True
            loop.call_soon_threadsafe(self._start_all)

    async def result(self, run: CoroutineRun) -> Any:
        """Await a run on the loop, which ``end`` can reach meanwhile."""
        token = run.token
        if token is None:
            return await run.result()
        self._runs[token] = run
        try:
            return await run.result()
        finally:
            if self._runs.get(token) is run:
                del self._runs[token]

    def run(self, task: Any, awaitable: Awaitable[Any], token: int | None) -> Any:
        """Await what a task returned; the calling thread waits. ``token``: None for an eager task."""
        if self._thread is threading.current_thread() and self._pid == os.getpid():
            # A task of a running coroutine: it awaits by itself. An eager one is waited for, on another loop.
            return awaitable if token is not None else self._elsewhere(task, awaitable)
        run, request = CoroutineRun(awaitable, task, token), task.request_stack.top
        outcome: Future[Any] = Future()
        context = contextvars.copy_context()

        async def carry() -> None:
            with run.as_current(request):
                try:
                    outcome.set_result(await self.result(run))
                except BaseException as error:
                    outcome.set_exception(error)

        loop = self._ready_loop()
        loop.call_soon_threadsafe(self._create, carry, context)
        return _Waiting(loop, run, outcome).value()

    def end(self, token: int, error: BaseException) -> bool:
        """End the coroutine of this delivery, as ``CoroutineRun.end`` says. False when none runs."""
        run, loop = self._runs.get(token), self._loop
        if run is None or loop is None:
            return False
        loop.call_soon_threadsafe(run.end, error)
        return True

    def end_all(self, error: Callable[[], BaseException]) -> None:
        """End all coroutines of jobs."""
        for token in list(self._runs):
            self.end(token, error())

    def stop(self, **_: Any) -> None:
        """Cancel what is left on the loop, wait a moment for that, and end its thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or self._pid != os.getpid():
            return
        self._loop = None
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(_tidy(loop), loop).result(TIDY_SECONDS)
        loop.call_soon_threadsafe(loop.stop)

    def _elsewhere(self, task: Any, awaitable: Awaitable[Any]) -> Any:
        other = CoroutineLoop(self._app)
        try:
            return other.run(task, awaitable, None)
        finally:
            other.stop()

    # -- the loop's thread

    def _ready_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is not None and self._pid == os.getpid():
            return loop
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = self._make_loop(), os.getpid()
            return self._loop

    def _make_loop(self) -> asyncio.AbstractEventLoop:
        self._starting, self._tasks, self._runs, self._called = deque(), set(), {}, False
        share_stacks(self._app)
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run_forever, args=(loop,), name="bridge-coroutines", daemon=True
        )
        self._thread.start()
        CoroutineWatch(loop, self._thread, lambda: self.running).start()
        signals.worker_shutdown.connect(self.stop)
        signals.worker_process_shutdown.connect(self.stop)
        return loop

    def _start_all(self) -> None:
        self._called = False
        while self._starting:
            self._create(self._starting[0], None)
            self._starting.popleft()

    def _run_forever(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while True:
            try:
                loop.run_forever()
            except BaseException:
                # A SystemExit in a child task gets as far as here; its parent sees it, and the others go on.
                logger.exception("a child task of a coroutine ended with an error that ends a process")
                continue
            if self._loop is not loop:
                return
            logger.warning(
                "a coroutine has stopped the event loop of all coroutines: it goes on. "
                "Remove the call of loop.stop()"
            )

    def _create(self, begin: Start, context: contextvars.Context | None) -> None:
        assert self._loop is not None
        task = self._loop.create_task(begin(), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Waiting:
    """A thread, or a pool process, that waits for a coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop, run: CoroutineRun, outcome: Future[Any]) -> None:
        self._loop, self._run, self._outcome = loop, run, outcome

    def value(self) -> Any:
        """Return what the coroutine returned; raises its error."""
        while True:
            try:
                failed = self._outcome.exception()
                break
            except SoftTimeLimitExceeded as error:
                # Celery raises it in the main thread of a pool process: it is the coroutine's.
                self._tell(error)
            except BaseException as error:
                # This thread or process has to go.
                self._tell(error)
                with contextlib.suppress(TimeoutError):
                    self._outcome.exception(TIDY_SECONDS)
                raise
        if failed is None:
            return self._outcome.result()
        try:
            raise failed  # Future.result() raises only what is true: an error whose len() is 0 is not
        finally:
            del failed  # else frame and error hold each other

    def _tell(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(self._run.end, error)


async def _tidy(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
