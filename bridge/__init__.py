"""Sidekiq Bridge: a Celery worker on Sidekiq's own Redis queues.

``from bridge import app`` gives the Celery application. It is made at that moment: importing this package
reads no setting and opens no connection.
"""

from __future__ import annotations

import gc
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "app"]


def __getattr__(name: str) -> Any:
    if name == "app":
        was_on = gc.isenabled()
        gc.disable()  # a collection in between walks through all that is loaded, and frees little
        try:
            from bridge.celery import app
        finally:
            if was_on:
                gc.enable()
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
