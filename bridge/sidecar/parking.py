"""Parks a task: its greenlet steps aside, the thread goes on, and the answer's reader resumes it.

Greenlets without a scheduler: each runs until it parks or ends, on the one thread that made it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlet


class Parkable(greenlet.greenlet):
    """A greenlet whose task may be parked. Its parent is the thread's own loop."""


def is_parkable() -> bool:
    """Whether the caller runs in such a greenlet."""
    return isinstance(greenlet.getcurrent(), Parkable)


def park(start: Callable[[Callable[[Any], None]], None]) -> Any:
    """Begin something and wait for its end without holding the thread.

    ``start`` is given ``resume``, which is to be called once, on this thread, with the value that this
    returns. It may be called before ``start`` has returned.
    """
    me = greenlet.getcurrent()
    early: list[Any] = []
    parked = False

    def resume(value: Any) -> None:
        if parked:
            me.switch(value)
        else:
            early.append(value)

    start(resume)
    if early:
        return early[0]
    parked = True
    loop = me.parent
    assert loop is not None, "only a Parkable may be parked"
    return loop.switch()
