"""A due entry as the store moves it."""

from __future__ import annotations

from typing import NamedTuple


class DueEntry(NamedTuple):
    """A due entry as its set holds it, and the queue and payload that it is pushed with."""

    member: bytes
    queue: str
    payload: bytes
