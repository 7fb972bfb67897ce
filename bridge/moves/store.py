"""Reads and writes the moves in Redis."""

from __future__ import annotations

from collections.abc import Callable

import redis

from bridge import errors
from bridge.moves.move import Move
from bridge.redis import scripts
from bridge.redis.outages import outages, translated
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua

Moves = dict[str, Move]
"""The moves by class."""
_NONSENSE = "its field in bridge:moves makes no sense"


class MoveStore:
    """Every method raises StoreUnavailable when Redis cannot answer."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def all(self) -> Moves:
        """The moves of all classes, in the order of the alphabet.

        A class whose field makes no sense is held in Ruby: without a move all its jobs would run in Python.
        """
        with outages():
            found: dict[bytes, bytes] = self.client.hgetall(keys.MOVES)  # type: ignore[assignment]
        named = [(name.decode("utf-8", "replace"), raw) for name, raw in sorted(found.items())]
        return {
            name: Move.parse(name, raw) or Move(name, is_back=True, reason=_NONSENSE) for name, raw in named
        }

    def now_ms(self) -> int:
        """Redis' clock: the processes that write moves run on several machines."""
        with outages():
            seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def change(self, job_class: str, change: Callable[[Move | None, int], Move | None]) -> Move | None:
        """Write what ``change`` makes of the move; it gets the time in ms too. None removes the move.

        Raises:
            MoveConflict: another process has changed this move at the same moment.
        """
        with outages():
            before: bytes = self.client.hget(keys.MOVES, job_class) or b""  # type: ignore[assignment]
        after = change(Move.parse(job_class, before) if before else None, self.now_ms())
        args = (job_class, before, b"" if after is None else after.raw())
        (written,) = scripts.run(self.client, [scripts.Call(lua.load("moves_change"), (keys.MOVES,), args)])
        if isinstance(written, redis.RedisError):
            raise translated(written) from written
        if not written:
            raise errors.MoveConflict(
                f"another command changed the move of {job_class} at the same moment. "
                "Look at `bridge moves`, then try again."
            )
        return after
