"""The module of native tasks that a followed worker imports: two tasks, and the hook on all its threads.

The hook notes each call and return in ``bridge/`` between two SIGUSR2, and then writes them to the file that
``JOB_PATH_FILE`` names, as JSON: a list of [thread, event, file, function].
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from bridge import app

_ROOT = f"{Path(__file__).resolve().parents[2] / 'bridge'}/"
_noted: list[tuple[str, str, str, str]] = []
_is_on = False


def path_job(*_: object) -> None:
    """A native job that is done."""


def path_fail_job(*_: object) -> None:
    """A native job that fails."""
    raise ValueError("failed on purpose")


app.task(name="PathJob")(path_job)
app.task(name="PathFailJob")(path_fail_job)


def _hook(frame: FrameType, event: str, _: object) -> None:
    path = frame.f_code.co_filename
    if _is_on and event in ("call", "return") and path.startswith(_ROOT):
        name = threading.current_thread().name
        _noted.append((name, event, path.removeprefix(_ROOT), frame.f_code.co_name))


def _switch(*_: object) -> None:
    global _is_on
    _is_on = not _is_on
    if not _is_on:
        Path(os.environ["JOB_PATH_FILE"]).write_text(json.dumps(_noted))
        _noted.clear()


signal.signal(signal.SIGUSR2, _switch)
threading.setprofile(_hook)
sys.setprofile(_hook)
