"""Whether the pushes of the moment are collected, to be written later in one step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bridge.broker.messages import Push

Collector = Callable[[Push, str, Collection[str] | None], None]
"""Takes a push, the class, and the implied fields of a push through Ruby (None: it does not pass Ruby)."""

_collector: ContextVar[Collector | None] = ContextVar("bridge_collector", default=None)


@contextmanager
def collecting(collector: Collector | None) -> Iterator[None]:
    """Give each push inside to ``collector``; None: write it at once."""
    token = _collector.set(collector)
    try:
        yield
    finally:
        _collector.reset(token)


def collector() -> Collector | None:
    """The one that takes the push under way."""
    return _collector.get()
