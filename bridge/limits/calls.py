"""The calls of the limit scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bridge.limits.gates import Gate, Gates
from bridge.redis.scripts import Call
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.effects import Effect

MAY_RUN, WAITS, LATER = 1, 0, 2
"""Answers of ``limit_take.lua``; less than 0: fenced."""
AGAIN, NOW = "again", "now"
FREED_BY_SETTLEMENT = "inf"
"""The end of a place whose holder has a lease."""

_SHARED = (keys.SCHEDULE, keys.WAITING, keys.CLAIMING, keys.LINES)


def holder(identity: str, token: int) -> str:
    """Who holds a place: a delivery."""
    return f"{identity}/{token}"


def take(
    gates: Gates,
    queues: Iterable[str],
    *,
    identity: str,
    token: int,
    job_id: str,
    queue: str,
    payload: bytes,
    claimed_at: str = "",
    turn: str = "",
) -> Call:
    """``limit_take.lua`` for one claimed job. ``queues``: keys of the queues that jobs may go to.

    ``claimed_at``: Redis TIME in s, which is the order of jobs. ``turn``: ``AGAIN`` or ``NOW`` after the
    answer ``LATER``.
    """
    names = [*_SHARED, keys.inflight(identity), *(key for gate in gates for key in gate.keys), *queues]
    args: list[str | bytes | int] = [
        token,
        holder(identity, token),
        FREED_BY_SETTLEMENT,
        job_id,
        queue,
        payload,
        claimed_at,
        turn,
    ]
    for gate in gates:
        args += (*gate.args, "".join(gate.limit.keeps_place(other.limit) for other in gates))
    return Call(lua.load("limit_take"), names, args)


def free(
    gate: Gate, queues: Iterable[str], *, holder: str, job_id: str, queue: str, goes_back: bool
) -> Effect:
    """``limit_free.lua`` as an effect. ``goes_back``: the job returns to its queue."""
    args = (holder, job_id, queue, "1" if goes_back else "0", *gate.args)
    return Effect("limit_free", (*_SHARED, *gate.keys, *queues), args)


def advance(gate: Gate, queues: Iterable[str]) -> Call:
    """``limit_advance.lua`` for one line."""
    return Call(lua.load("limit_advance"), [*_SHARED, *gate.keys, *queues], gate.args)


def shift(line: str, begin: str, seconds: float, most: int) -> Call:
    """``limit_shift.lua`` for one stretch of a line."""
    names = (keys.SCHEDULE, keys.gate(line)[2], keys.LINES)
    return Call(lua.load("limit_shift"), names, (begin, f"{seconds:.6f}", most, line))


def release(line: str, most: int) -> Call:
    """``limit_release.lua`` for the first jobs of a line."""
    names = (keys.SCHEDULE, keys.WAITING, keys.gate(line)[2], keys.LINES)
    return Call(lua.load("limit_release"), names, (line, most))


def missing(lines: Sequence[str]) -> Call:
    """``limit_missing.lua``: which of these lines have lost jobs."""
    names = (keys.SCHEDULE, keys.LINES, *(keys.gate(line)[2] for line in lines))
    return Call(lua.load("limit_missing"), names, lines)


def claimed(name: str) -> Call:
    """``limit_claimed.lua``: all jobs of a claim have asked. ``name``: that of the claim in Redis."""
    return Call(lua.load("limit_claimed"), (keys.CLAIMING, keys.WAITING), (name,))
