"""What Celery's own commands say where a Sidekiq job differs from a Celery task."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from celery.utils.nodenames import node_format

from bridge.batches.chords import Chords
from bridge.errors import BridgeError, PushRefused
from bridge.results.backend import ResultBackend


class Results(Chords, ResultBackend):
    """The results of tracked jobs. Under ``celery result`` a person reads one sentence, and no traceback."""

    def wait_for_pending(self, *args: Any, **kwargs: Any) -> Any:
        """As the base does."""
        with self._sentences():
            return super().wait_for_pending(*args, **kwargs)

    def get_task_meta(self, *args: Any, **kwargs: Any) -> Any:
        """As the base does."""
        with self._sentences():
            return super().get_task_meta(*args, **kwargs)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except BridgeError as error:
            if running() != "result":
                raise
            raise click.ClickException(str(error)) from None


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


def tell_log_file(sentence: str) -> None:
    """A process that ``-D`` has sent to the background ends without a word otherwise: it has no stderr."""
    context = click.get_current_context(silent=True)
    path = context.params.get("logfile") if context is not None else None
    if context is None or not path:
        return
    with suppress(OSError, ValueError):
        if os.path.samestat(os.fstat(2), os.stat(os.devnull)):
            with open(node_format(path, context.params.get("hostname") or ""), "a", encoding="utf-8") as file:
                print(sentence, file=file)


#: Celery's commands that would only wait: what to do instead.
_USELESS = {
    "migrate": (
        "Sidekiq's jobs are not messages of Celery, so it would move none and wait without end. To move to "
        "another Redis, make it a replica of this one and promote it"
    )
}


def install() -> None:
    """Hide a warning about Celery itself: ``events`` declares ``-d`` twice. Refuse some commands."""
    warnings.filterwarnings("ignore", "The parameter -d is used more than once", UserWarning)
    context = click.get_current_context(silent=True)
    name = str(context.invoked_subcommand) if context is not None else ""
    if name in _USELESS:
        click.echo(f"Error: celery {name}: {_USELESS[name]}.", err=True)
        sys.exit(1)
