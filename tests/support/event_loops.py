"""Event loops for tests."""

from __future__ import annotations

from bridge.event_loop import EventLoop, SharedSockets


def sharing() -> tuple[EventLoop, SharedSockets]:
    """An event loop of this thread, and the sockets that another thread may wait for."""
    made = EventLoop()
    shared = made.share()
    assert shared is not None
    return made, shared
