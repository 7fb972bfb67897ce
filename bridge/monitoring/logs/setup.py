"""Takes over Celery's logging for workers of this application: one format, Sidekiq's job lines."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click
from celery import signals

from bridge.monitoring.log_text import tolerant
from bridge.monitoring.logs import files
from bridge.monitoring.logs.batching import Batching
from bridge.monitoring.logs.formats import JsonFormat, TextFormat

if TYPE_CHECKING:
    from bridge.settings import Settings

#: Celery's own lines about each task, which ours replace; the last one shows arguments at DEBUG.
REPLACED = {
    "celery.worker.strategy": logging.WARNING,
    "celery.app.trace": logging.WARNING,
    "celery.pool": logging.INFO,
}


def install() -> None:
    """Listen for workers of this application. Logging of other Celery applications is left alone."""
    signals.celeryd_init.connect(_on_worker, weak=False)


def configure(settings: Settings, level: int, logfile: Any = None) -> None:
    """Send everything to stdout, or to the file of ``-f`` or of the settings."""
    target = files.target(settings, logfile)
    handler = Batching(target)
    handler.setFormatter(JsonFormat() if files.is_json(settings, target) else TextFormat())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, least in REPLACED.items():
        if logging.getLogger(name).level == logging.NOTSET:  # else the user has asked for these lines
            logging.getLogger(name).setLevel(max(least, level))


def _on_worker(instance: Any = None, **_: Any) -> None:
    runtime = getattr(instance.app, "bridge", None)
    # A setup_logging of the user's own means that they want none of this.
    if runtime is None or signals.setup_logging.receivers or not instance.app.conf.worker_hijack_root_logger:
        return
    settings: Settings = runtime.settings
    tolerant(sys.__stdout__)  # the banner names the tasks
    # Celery's banner is text on stdout, where a reader of JSON expects none.
    instance.quiet = instance.quiet or files.is_json(settings, logging.StreamHandler(sys.__stdout__))

    def set_up(loglevel: int, logfile: Any = None, **_: Any) -> None:
        configured = logging.getLevelNamesMapping()[settings.log_level]
        configure(settings, loglevel if _is_asked_for("loglevel") else configured, logfile)

    signals.setup_logging.connect(set_up, weak=False)


def _is_asked_for(option: str) -> bool:
    """Whether an option was given to the celery command, whose own default would hide our setting."""
    context = click.get_current_context(silent=True)
    if context is None:
        return True  # started by a program, which says what it wants
    return context.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT
