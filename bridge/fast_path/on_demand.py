"""Fields of a request that are filled in when one of them is read.

Not by ``__getattr__``: with it, Python takes the slow way to every attribute and method of the object.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

from celery.worker.request import Request

Kind = TypeVar("Kind")

_filling = threading.RLock()


class OnDemand:
    """One field. Reading it before it is there calls ``fill`` of its request, which sets all of them."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, request: Any, owner: type) -> Any:
        """Called by any thread: a control command may ask while the job runs."""
        if request is None:
            return self
        with _filling:
            if not request.is_full:
                request.is_full = True
                request.fill()
        try:
            return vars(request)[self._name]
        except KeyError:
            raise AttributeError(self._name) from None


class FromStart:
    """A field that all requests of a class have from the start of their run; None before."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __get__(self, request: Any, owner: type) -> Any:
        """Celery's shows in control commands whether a job has begun."""
        return None if request is None or request.time_start is None else self._value


_CELERYS: tuple[str, ...] = vars(Request)["__slots__"]
_SLOTS = [name for name in _CELERYS if name not in ("id", "name", "__weakref__", "__dict__")]
#: Names of all fields that Celery's constructor sets.
NAMES = (
    *(f"_Request{name}" if name.startswith("__") else name for name in _SLOTS),
    *("_message", "_ignore_result", "_delivery_info"),
)


def of_celery(cls: type[Kind]) -> type[Kind]:
    """Decorate a class of requests, whose constructor is not Celery's: that one's fields are on demand."""
    for name in NAMES:
        setattr(cls, name, OnDemand(name))
    return cls
