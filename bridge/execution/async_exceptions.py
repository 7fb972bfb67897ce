"""Raises an exception in a thread that runs a native task, and only while the task's own code runs.

Python delivers such an exception whenever the thread comes to its next bytecode. One that arrived a little
later, in Celery's code or ours, would cost the slot; later still, it would hit the next job. So each task's
code runs within a window, and what is still on its way when the window closes is taken back.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.execution import forks

_lock = threading.Lock()
#: Thread to the token of the delivery whose code it runs.
_open: dict[int, int] = {}
#: Thread to what was raised in it and has not been seen to arrive.
_sent: dict[int, BaseException] = {}

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Cancelled(BaseException):
    """Replaces an error that the task's own ``except Exception`` would swallow."""


class _TakenBack(BaseException):
    """Takes the place of an exception that has not arrived."""


def raise_in(runner: Any, token: int, error: BaseException, *, hidden: bool = False) -> bool:
    """Raise in the thread (by identifier) or gevent greenlet that runs this delivery. False when it does not.

    ``hidden``: the task's code sees a :class:`Cancelled`, and ``error`` is raised where that code ends.
    Safe from any thread. A thread that is inside a call which does not return notices nothing.
    """
    greenlet = runner if hasattr(runner, "kill") else None
    thread = id(runner) if greenlet is not None else runner
    with _lock:
        if _open.get(thread) != token:
            return False
        _sent[thread] = error
        kind = Cancelled if hidden else type(error)
        if greenlet is None:
            _set_async_exc(ctypes.c_ulong(thread), ctypes.py_object(kind))
    if greenlet is not None:
        greenlet.kill(kind, block=False)
    return True


def call(code: Callable[..., Any], token: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call the code of a task within a window."""
    thread = threading.get_ident()
    generation = forks.generation
    try:
        # Within: what is raised from outside may arrive as soon as the window is open.
        _open_for(thread, token)
        return code(*args, **kwargs)
    except Cancelled:
        raise _sent.get(thread) or RuntimeError("cancelled without an error") from None
    except BaseException as error:
        # Only its class can be raised from outside: what it has to say is put in here.
        if (meant := _sent.get(thread)) is not None and type(error) is type(meant) and not error.args:
            error.args = meant.args
        raise
    finally:
        if generation != forks.generation:
            forks.leave()
        _close(thread)


def _open_for(thread: int, token: int) -> None:
    with _lock:
        _sent.pop(thread, None)
        _open[thread] = token


def _close(thread: int) -> None:
    try:
        _shut(thread)
    except BaseException:
        # It arrived between the task's end and the lock. It still is the task's, and the last one to be.
        _shut(thread)
        raise


def _shut(thread: int) -> None:
    with _lock:
        _open.pop(thread, None)
        if _sent.pop(thread, None) is not None:
            _take_back(thread)


def _take_back(thread: int) -> None:
    """Let what is still on its way to the calling thread arrive here, in another one's place, or nothing.

    To set no exception would keep Python's flag for one. Until the next exception arrives, Python 3.11 looks
    for it at each call, and a tracer of bytecodes never gets past the first.
    """
    try:
        # Nothing arrives in a greenlet, which Python does not know as a thread.
        arrives = _set_async_exc(ctypes.c_ulong(thread), ctypes.py_object(_TakenBack))
        while arrives:
            pass
    except _TakenBack:
        pass
