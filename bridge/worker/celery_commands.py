"""What Celery's own commands say where a Sidekiq job differs from a Celery task."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from celery.backends.base import DisabledBackend

from bridge.errors import NO_RESULT, PushRefused


class NoResults(DisabledBackend):
    """Celery's own, which says "No result backend is configured", with a sentence about Sidekiq."""

    def refuse(self, *args: Any, **kwargs: Any) -> Any:
        """Raises NotImplementedError, as Celery's does; under the celery command a sentence."""
        raise click.ClickException(NO_RESULT) if running() == "result" else NotImplementedError(NO_RESULT)

    def store_result(self, *args: Any, request: Any = None, **kwargs: Any) -> None:
        """Nothing to do for Celery's tracer, which names a request; refuses every other caller."""
        if request is None:
            self.refuse()

    get_state = get_status = get_result = get_traceback = refuse
    get_task_meta_for = wait_for = get_many = refuse
    add_pending_result = forget = refuse
    #: Beat would push ``celery.backend_cleanup`` each night, to Ruby.
    supports_autoexpire = True
    #: Missing in Celery's: ``AsyncResult.state`` ended in an AttributeError.
    _get_task_meta_for = refuse


def running() -> str | None:
    """Name of the celery command that this thread runs (``result``, ``call``); None outside of one."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.info_name


@contextmanager
def refusing() -> Iterator[None]:
    """Under ``celery call`` a person reads why a push is refused: one sentence, no traceback."""
    try:
        yield
    except PushRefused as refusal:
        if running() != "call":
            raise
        raise click.ClickException(str(refusal)) from None


def quieten() -> None:
    """Hide a warning about Celery itself: its ``events`` command declares ``-d`` twice."""
    warnings.filterwarnings("ignore", "The parameter -d is used more than once", UserWarning)
