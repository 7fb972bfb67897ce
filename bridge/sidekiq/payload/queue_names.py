"""Names of queues that Sidekiq's Web UI can show and a worker can read."""

from __future__ import annotations

import re

#: Names that the Web UI accepts in the address of a queue's page.
QUEUE_NAME = re.compile(r"[A-Za-z0-9_:.\-]+")

#: The names that passed. A program pushes to few queues, each of them many times.
_sound: set[str] = set()
_MOST_KEPT = 1000


def objection(name: object) -> str | None:
    """Return the sentence that refuses this name of a queue; None if it is right."""
    if name in _sound:
        return None
    if not isinstance(name, str) or not QUEUE_NAME.fullmatch(name):
        return f"{name!r} cannot be the name of a queue: write letters, digits and _ : . - only"
    if len(_sound) < _MOST_KEPT:
        _sound.add(name)
    return None
