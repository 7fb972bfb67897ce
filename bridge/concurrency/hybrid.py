"""The bridge's own pool: Ruby tasks on the consumer's thread, coroutines on their loop, others in threads.

A Ruby task only waits for the sidecar; a thread for each would cost more than the job. A native task never
runs on the consumer's thread: one that blocks would stop the fetching.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery.concurrency.base import BasePool

from bridge import event_loop
from bridge.broker.messages import RUBY_TASK
from bridge.concurrency.greenlets import RubyRuns
from bridge.concurrency.size import at_least_one, positive
from bridge.concurrency.threads import NativeThreads
from bridge.execution.call import Call, apply
from bridge.execution.coroutine_run import is_coroutine_function
from bridge.fast_path.coroutine import run as run_coroutine
from bridge.fast_path.native import run as run_native
from bridge.fast_path.request import LazyRequest

LOOK_SECONDS = 0.1
#: Threads for calls of the sidecar that block. Each begins when a slot needs it: the slots are the bound.
MOST_HELPERS = 10_000


def _nobody(*_: Any) -> None:
    """Ignore a result: the caller gave no callback."""


class HybridPool(BasePool):
    """The pool that is used when -P is absent; ``limit`` jobs of both kinds together, by prefetch."""

    body_can_be_buffer = True
    signal_safe = False

    def on_start(self) -> None:
        """Take over the consumer's thread, which this is."""
        self._event_loop = event_loop.current()
        self._ruby = RubyRuns(self.app)
        self._native = NativeThreads(self.limit, self._event_loop.share())
        self._coroutines = self.app.bridge.coroutines
        self.app.bridge.stream_from(self._event_loop, MOST_HELPERS)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] = _nobody,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> None:
        """Run a task as Celery's worker asks for it."""
        call = Call(target, args, kwargs, callback, accept_callback)
        if args[0] == RUBY_TASK:
            self._ruby.start(call)
        else:
            self._native.submit(apply, call)

    def runner(self, task: Any) -> Callable[[LazyRequest], None]:
        """Return the function that begins an unobserved job of this task."""
        if task.name == RUBY_TASK:
            return self._ruby.begin
        if is_coroutine_function(task.code):
            return self._begin_coroutine
        return functools.partial(self._native.submit, run_native)

    def has_threads_for(self, task: Any) -> bool:
        """Whether ``runner`` of this task may be called by a deputy: a thread runs the job."""
        return task.name != RUBY_TASK and not is_coroutine_function(task.code)

    def _begin_coroutine(self, request: LazyRequest) -> None:
        loop = self._coroutines
        loop.start(lambda: run_coroutine(request, loop, self._native.submit))

    def on_stop(self) -> None:
        """Wait for what runs. This is the consumer's thread, so its loop must go on meanwhile."""
        while self._ruby.running or self._coroutines.running or self._native.busy:
            self._event_loop.wait(LOOK_SECONDS)
        self._native.stop()

    def on_terminate(self) -> None:
        """Cold shutdown: the lifecycle has given the jobs back."""

    def grow(self, n: int = 1) -> None:
        """Have ``n`` more slots (``--autoscale``, ``celery control pool_grow``, Flower)."""
        self._resize(self.limit + positive(n))

    def shrink(self, n: int = 1) -> None:
        """Have ``n`` slots fewer. Running jobs go on."""
        self._resize(self.limit - positive(n))

    def _resize(self, size: int) -> None:
        self.limit = at_least_one(size)
        self._native.resize(size)

    @property
    def num_processes(self) -> int:
        """Slots."""
        return int(self.limit)

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()  # type: ignore[misc]
        info.update(
            {
                "max-concurrency": self.limit,
                "parked": self._ruby.running,
                "threads": self._native.count,
                "coroutines": self._coroutines.running,
            }
        )
        return info
