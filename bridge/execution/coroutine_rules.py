"""Refuses tasks whose body would never run: generators, and coroutines where nothing awaits them."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Iterator
from typing import Any

from celery import signals
from celery.utils.dispatch import Signal

from bridge.execution.coroutine_run import is_coroutine_function

#: Methods of a task that Celery calls and does not await.
HOOKS = ("__call__", "before_start", "on_success", "on_failure", "on_retry", "after_return", "on_replace")
#: A coroutine that runs in one of these pools would need an event loop in the thread that runs the greenlets.
GREENLETS = ("gevent", "eventlet")


def objections(task: Any) -> Iterator[str]:
    """Sentences that refuse this task."""
    code = getattr(task, "code", task.run)
    if is_generator_function(code):
        yield (
            f"the task {task.name} is a generator function (it has a yield): Celery would never run its "
            "body. Write a loop without yield."
        )
    for name in HOOKS:
        if is_coroutine_function(getattr(task, name, None)):
            yield (
                f"{name} of the task {task.name} is `async def`: Celery calls it and awaits nothing. "
                "Write a plain `def`."
            )


def pool_objection(app: Any, pool: Any) -> str | None:
    """Return the sentence that refuses coroutine tasks under this class of pool; None if they work."""
    kind = pool.__module__.rpartition(".")[2]
    if kind not in GREENLETS:
        return None
    names = sorted(
        task.name for task in app.tasks.values() if is_coroutine_function(getattr(task, "code", task.run))
    )
    if not names:
        return None
    return (
        f"-P {kind} cannot run the `async def` tasks {', '.join(names)}: an event loop blocks all greenlets. "
        "Leave out -P, or move these tasks to a worker of their own."
    )


def signal_objections() -> Iterator[str]:
    """Sentences that refuse receivers of Celery's signals that are coroutine functions."""
    for name in signals.__all__:
        for receiver in _receivers(getattr(signals, name)):
            if is_coroutine_function(receiver):
                called = getattr(receiver, "__qualname__", repr(receiver))
                yield (
                    f"the receiver {called} of the signal {name} is `async def`: Celery calls it and awaits "
                    "nothing. Write a plain `def`."
                )


def is_generator_function(code: Any) -> bool:
    """Whether a call of this code makes a generator, and runs nothing."""
    if inspect.isasyncgenfunction(code):
        return True
    while isinstance(code, functools.partial):
        code = code.func
    flags = getattr(getattr(code, "__code__", None), "co_flags", 0)
    is_awaitable = bool(flags & inspect.CO_ITERABLE_COROUTINE)  # types.coroutine
    return inspect.isgeneratorfunction(code) and not is_awaitable


def _receivers(signal: Signal) -> Iterator[Any]:
    for _, receiver in signal.receivers or ():
        found = receiver() if isinstance(receiver, weakref.ReferenceType) else receiver
        if found is not None:
            yield found
