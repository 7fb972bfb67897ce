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
        """The moves of all classes, in the order of the alphabet."""
        return self.read()[0]

    def read(self) -> tuple[Moves, Moves]:
        """The moves of all classes, in the order of the alphabet, and those that have finished.

        A class whose field makes no sense is held in Ruby: without a move all its jobs would run in Python.
        """
        with outages():
            found: dict[bytes, bytes] = self.client.hgetall(keys.MOVES)  # type: ignore[assignment]
        named = [(name.decode("utf-8", "replace"), raw) for name, raw in sorted(found.items())]
        moves = [Move.parse(name, raw) or Move(name, is_back=True, reason=_NONSENSE) for name, raw in named]
        return (
            {move.job_class: move for move in moves if not move.is_finished},
            {move.job_class: move for move in moves if move.is_finished},
        )

    def now_ms(self) -> int:
        """Redis' clock: the processes that write moves run on several machines."""
        with outages():
            seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def change(self, job_class: str, change: Callable[[Move | None, int], Move | None]) -> Move | None:
        """Write what ``change`` makes of the move; it gets the time in ms too. None removes the move.

        A finished move is none.

        Raises:
            MoveConflict: another process has changed this move at the same moment.
        """
        with outages():
            before: bytes = self.client.hget(keys.MOVES, job_class) or b""  # type: ignore[assignment]
        found = Move.parse(job_class, before) if before else None
        after = change(None if found is None or found.is_finished else found, self.now_ms())
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

    def forget(self, finished: Move) -> None:
        """Remove a finished move, unless it has changed."""
        args = (finished.job_class, finished.raw(), b"")
        with outages():
            scripts.run(self.client, [scripts.Call(lua.load("moves_change"), (keys.MOVES,), args)])
