"""Sidekiq Bridge: a Celery worker on Sidekiq's own Redis queues.

``from bridge import app`` gives the Celery application, and ``from bridge import Batch`` its batches. The
application is made at that moment: importing this package reads no setting and opens no connection.
"""

from __future__ import annotations

import gc
from typing import Any

__version__ = "0.1.0"
__all__ = ["Batch", "__version__", "app"]


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
    if name == "Batch":
        return __getattr__("app").Batch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
