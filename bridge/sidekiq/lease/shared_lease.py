"""The parent's lease as its pool processes see it: the identity that holds it, and until when."""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable

_HEAD = struct.Struct("=dH")
_SIZE = 4096
#: A parent that was frozen together with its pool process renews its lease within a round or two.
WAIT_SECONDS = 5.0
LOOK_SECONDS = 0.05


class SharedLease:
    """Memory that a fork shares. The parent writes, a pool process reads; neither asks Redis for this."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._memory = mmap.mmap(-1, _SIZE)
        self._clock = clock

    def write(self, identity: str, held_until: float) -> None:
        """The lease is held under this identity until then, by the clock that all processes share."""
        name = identity.encode()[: _SIZE - _HEAD.size]
        self._memory[: _HEAD.size + len(name)] = _HEAD.pack(held_until, len(name)) + name

    def holds(self, identity: str) -> bool:
        """Whether a job that was claimed under ``identity`` may be begun in a pool process.

        Waits for the parent where the lease has run out by now: both were frozen, and the parent asks Redis.
        """
        deadline = self._clock() + WAIT_SECONDS
        while True:
            name, held_until = self._read()
            now = self._clock()
            if name != identity.encode() or now >= deadline:
                return False
            if now <= held_until:
                return True
            time.sleep(LOOK_SECONDS)

    def _read(self) -> tuple[bytes, float]:
        held_until, length = _HEAD.unpack_from(self._memory)
        return self._memory[_HEAD.size : _HEAD.size + length], held_until
