"""Shadows of Ruby runs: what a task says and sees of them, and the dry run itself."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.exceptions import Ignore

from bridge.execution import async_exceptions, coroutine_run
from bridge.execution.outcomes import DeadlineExceeded
from bridge.sidekiq.payload.job import SidekiqJob

#: Field of the request of a dry run.
_MARK = "bridge_is_shadow"
#: Tokens of deliveries are above zero.
_tokens = itertools.count(-1, -1)


class Shadowed:
    """The part of a task that is about shadows."""

    shadow_safe: bool = False
    """Whether the code writes nothing while ``is_shadow`` is true. No other task runs as a shadow."""
    request: Any

    @property
    def is_shadow(self) -> bool:
        """Whether this run only shows what the code would return: Ruby has done the job."""
        return bool(self.request.get(_MARK))


def is_accepted(app: Any, name: str) -> bool:
    """Whether a class has a task that may run as a shadow."""
    return bool(getattr(app.tasks.get(name), "shadow_safe", False))


def dry_run(app: Any, job: SidekiqJob, seconds: float) -> Any:
    """Run the native task of a job with ``is_shadow``. Returns what it returns; raises what it raises."""
    task = app.tasks[job.native_class]
    args, kwargs = job.native_arguments()
    count, token = job.retry_count, next(_tokens)
    # Called directly: self.retry raises, and decides nothing. Eager: a coroutine is awaited.
    own = {"id": job.jid, "retries": 0 if count is None else count + 1, _MARK: True}
    task.push_request(args=args, kwargs=kwargs, called_directly=True, is_eager=True, **own)
    try:
        with _bounded(app, token, seconds):
            result = async_exceptions.call(task.code, token, args, kwargs)
            return coroutine_run.finish(task, result, token)
    except Ignore:
        return None
    finally:
        task.pop_request()


@contextmanager
def _bounded(app: Any, token: int, seconds: float) -> Iterator[None]:
    """End the code after this time: it would keep all other shadows waiting."""
    thread = threading.get_ident()

    def end() -> None:
        error = DeadlineExceeded.after(seconds)
        if not app.bridge.coroutines.end(token, error):
            async_exceptions.raise_in(thread, token, error)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
