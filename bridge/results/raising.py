"""The exception of a job that failed, for the process that waits for its result."""

from __future__ import annotations

import builtins
import functools
import sys

from celery.exceptions import TaskRevokedError

from bridge.errors import JobFailed
from bridge.results.record import Record

#: Each name that a job may invent is a class that stays.
_MOST_CLASSES = 1000


def error_of(record: Record) -> Exception:
    """The exception with the class and the message of the job's own.

    A class that this process has loaded is used. No module is imported, because the name comes from Redis.
    A class that would end the process (SystemExit) is replaced, like every unknown one, by a subclass of
    JobFailed that has its name.
    """
    if record.was_revoked:
        return TaskRevokedError(record.error_message or "revoked")
    name, message = record.error_class or "Bridge::JobFailed", record.error_message
    known = _loaded(name)
    return (_made(known, message) if known is not None else None) or _unknown(name)(message)


def _loaded(name: str) -> type[Exception] | None:
    module, _, last = name.rpartition(".")
    place = sys.modules.get(module) if module else builtins
    found = getattr(place, last, None) if last.isidentifier() else None
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _made(kind: type[Exception], message: str) -> Exception | None:
    """Made without its ``__init__``, which may want other arguments than a message. None if that fails."""
    try:
        error = kind.__new__(kind, message)
        error.args = (message,)
        is_same = str(error) == message or isinstance(error, KeyError)
    except Exception:  # the class has its own idea of how it is made
        return None
    return error if is_same else None


@functools.lru_cache(maxsize=_MOST_CLASSES)
def _unknown(name: str) -> type[JobFailed]:
    return type(name.replace("\0", "?") or "JobFailed", (JobFailed,), {"__module__": "bridge.errors"})
