"""One run of a coroutine task: the event loop awaits it, and any thread may end it with an error."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Generator, Iterator
from contextvars import ContextVar
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from celery._state import _task_stack  # type: ignore[attr-defined]
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.threads import get_ident
from greenlet import getcurrent

from bridge.execution.outcomes import Settle

_current: ContextVar[CoroutineRun | None] = ContextVar("bridge_coroutine_run", default=None)


class SoftLimitPassed(SoftTimeLimitExceeded, asyncio.CancelledError):
    """The soft time limit, as a coroutine sees it.

    ``except SoftTimeLimitExceeded`` catches it. asyncio's own code takes it for a cancellation, and tidies
    up: a TaskGroup would leave its children running after any other exception from outside.
    """


class CoroutineRun:
    """Belongs to the event loop's thread. ``token`` is its delivery's; None for an eager task."""

    def __init__(self, awaitable: Awaitable[Any], task: Any, token: int | None) -> None:
        self._steps = awaitable if inspect.iscoroutine(awaitable) else _awaited(awaitable)
        self.task, self.token = task, token
        self.request: Any = None
        self._runner: asyncio.Task[Any] | None = None
        self._soft = False
        self._asked: BaseException | None = None
        self._seen: BaseException | None = None
        """The error for which the coroutine has seen a cancellation."""

    async def result(self) -> Any:
        """Await the coroutine. Raises its own error, or the one that it was ended with."""
        self._runner = asyncio.current_task()
        if self._runner is not None and (self._soft or self._asked is not None):
            self._runner.cancel()  # ended before it began
        try:
            value = await self
        except BaseException as error:
            verdict = self._verdict(error)
            if verdict is error:
                raise
            raise verdict from None
        if isinstance(self._seen, Settle):
            # It swallowed its cancellation, and may have stopped halfway: the job is given back, not done.
            raise self._seen
        return value

    def end(self, error: BaseException) -> None:
        """Cancel the coroutine; where it ends, ``error`` takes the place of its CancelledError.

        A soft time limit is raised inside the coroutine, which may catch it and go on.
        """
        if isinstance(error, SoftTimeLimitExceeded):
            self._soft = True
        else:
            self._asked = error
        if self._runner is not None:
            self._runner.cancel()

    def _verdict(self, error: BaseException) -> BaseException:
        if self._seen is not None and (
            isinstance(error, asyncio.CancelledError) or isinstance(self._seen, Settle)
        ):
            return self._seen.with_traceback(error.__traceback__)
        if isinstance(error, SoftLimitPassed):
            return SoftTimeLimitExceeded(*error.args).with_traceback(error.__traceback__)
        return error

    def __await__(self) -> Generator[Any, Any, Any]:
        """Step by step: an event loop can throw a CancelledError only."""
        send, throw = self._steps.send, self._steps.throw
        step: Any = send
        value: Any = None
        while True:
            try:
                awaited = step(value)
            except StopIteration as stop:
                return stop.value
            try:
                value = yield awaited
                step = send
            except asyncio.CancelledError as cancelled:
                step, value = throw, self._thrown(cancelled)
            except BaseException as error:
                step, value = throw, error

    def _thrown(self, cancelled: asyncio.CancelledError) -> BaseException:
        if self._asked is not None:
            self._seen, self._asked = self._asked, None
        elif self._soft and self._runner is not None:
            self._soft = False
            # asyncio counts requests to cancel: this one is answered, and the coroutine may await again.
            self._runner.uncancel()
            return SoftLimitPassed()
        return cancelled

    @contextlib.contextmanager
    def as_current(self, request: Any) -> Iterator[None]:
        """Make ``current_task`` and ``self.request`` those of this run, in its context and its children's."""
        self.request = request
        _current.set(self)
        _task_stack.push(self.task)
        self.task.request_stack.push(request)
        try:
            yield
        finally:
            self.task.request_stack.pop()
            _task_stack.pop()

    def __str__(self) -> str:
        return f"jid={self.request.id} class={self.task.name}"


def share_stacks(app: Any) -> None:
    """Let the coroutines of one thread have a stack each of Celery's current tasks and requests.

    Celery keeps a stack for each thread. To be called before the first coroutine begins: what lies on a stack
    then is found as before.
    """
    for stack in (_task_stack, *(task.request_stack for task in app.tasks.values())):
        stack.__ident_func__ = _identity


def is_unfinished(result: Any) -> bool:
    """Whether a function has returned something whose body is still to run."""
    kind = type(result)  # not isinstance, which asks the result itself
    return hasattr(kind, "__await__") or issubclass(kind, (GeneratorType, AsyncGeneratorType))


def finish(task: Any, result: Any, token: int | None) -> Any:
    """Await what a task's code returned, where that is a coroutine. ``token``: of its delivery.

    Raises:
        TypeError: a generator was returned. Its body has not run, and the job is not done.
    """
    if not is_unfinished(result) or (token is None and not task.request.is_eager):
        return result  # called as a function: the caller awaits it
    if not inspect.isawaitable(result):
        raise TypeError(f"{task.name} returned a generator, and its body did not run: write a loop instead")
    if hasattr(getcurrent(), "kill"):
        raise TypeError(f"{task.name} returned a coroutine, and its body did not run: gevent cannot run one")
    return task.app.bridge.coroutines.run(task, result, token)


def is_coroutine_function(code: Any) -> bool:
    """Whether a call of this code returns a coroutine, and runs nothing of its own."""
    return inspect.iscoroutinefunction(code) or (
        callable(code) and inspect.iscoroutinefunction(type(code).__call__)
    )


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _identity() -> Any:
    return _current.get() or get_ident()
