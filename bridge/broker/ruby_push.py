"""Whether the push under way passes the Rails app's client middleware, and what became of it there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bridge.errors import BridgeError

RubyClient = Callable[[str, bytes, float | None, Collection[str]], str | None]
"""Pushes a job: class, payload, time in epoch seconds, implied fields. Returns its queue; None if halted."""

_implied: ContextVar[Collection[str] | None] = ContextVar("bridge_ruby_push", default=None)


class PushHalted(BridgeError):
    """The app's client middleware stopped the push."""


@contextmanager
def through_ruby(implied: Collection[str]) -> Iterator[None]:
    """A push inside passes Ruby. ``implied``: default fields of its payload, which no caller gave."""
    token = _implied.set(implied)
    try:
        yield
    finally:
        _implied.reset(token)


def implied() -> Collection[str] | None:
    """The implied fields of the push under way; None for a push that does not pass Ruby."""
    return _implied.get()
