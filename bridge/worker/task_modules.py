"""The modules of native tasks that a worker loads. One that cannot be loaded ends the start, in a sentence.

Celery's own end is a traceback, and another at each restart. The worker does not go on without the module:
its classes would run in Ruby, or not at all.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from bridge.errors import ConfigurationError
from bridge.settings import modules
from bridge.worker import preflight

OWN = "bridge.tasks"


def install(app: Any) -> None:
    """Load ours beside the user's own ``include`` and ``imports``, and name one that cannot be loaded.

    The user's would replace a setting of ours: no Ruby job would run.
    """
    loader = app.loader
    loader.builtin_modules = (OWN, *app.bridge.settings.imports)
    loader.import_task_module = _guarded(app, loader.import_task_module)


def check_imports(sender: Any, **_: Any) -> None:
    """Refuse to start without a module that BRIDGE_IMPORTS names."""
    if not hasattr(sender, "bridge"):
        return  # another Celery application in this process
    settings = sender.bridge.settings
    for name in settings.imports:
        if not modules.find(name):
            preflight.refuse(
                ConfigurationError(
                    f"{settings.source('imports')} names {name}: no such module is in {os.getcwd()} or on "
                    "Python's path: correct the name, or start the worker where the module is"
                )
            )


def _guarded(app: Any, celerys: Callable[[str], Any]) -> Callable[[str], Any]:
    def import_task_module(name: str) -> Any:
        try:
            return celerys(name)
        except Exception as error:
            if name == OWN or click.get_current_context(silent=True) is None:
                raise
            if _wants_details():
                traceback.print_exc()
            preflight.refuse(ConfigurationError(f"{_place(app, name)} names {name}, and {_reason(error)}"))

    return import_task_module


def _place(app: Any, name: str) -> str:
    settings = app.bridge.settings
    if name in settings.imports:
        return str(settings.source("imports"))
    for setting in ("include", "imports"):
        if name in (app.conf[setting] or ()):
            return f"{setting} (set {app.user_settings.place(setting)})"
    return "-I"


def _reason(error: Exception) -> str:
    """The error in one line, with the line of the file that raised it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno} cannot be read: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    where = next((f"{f.filename}:{f.lineno}" for f in reversed(frames) if "importlib" not in f.filename), "")
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{where} raises {said}" if where else said


def _wants_details() -> bool:
    """Whether the command line asks for debug."""
    words = [word.casefold() for word in sys.argv[1:]]
    return any(word.endswith("debug") for word in words)
