"""The calls of the limit scripts."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.limits.gates import Gate, Gates
from bridge.redis.scripts import Call
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.effects import Effect

FREED_BY_SETTLEMENT = "inf"
"""The end of a place whose holder has a lease."""

_SHARED = (keys.SCHEDULE, keys.WAITING)


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
) -> Call:
    """``limit_take.lua`` for one claimed job. ``queues``: keys of the queues that jobs may go to.

    ``claimed_at``: Redis TIME in s, which orders jobs that several workers park at once.
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
    ]
    for gate in gates:
        args += (*gate.args, "".join("01"[gate.limit.is_within(other.limit)] for other in gates))
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
    names = (keys.SCHEDULE, keys.gate(line)[2])
    return Call(lua.load("limit_shift"), names, (begin, f"{seconds:.6f}", most))


def release(line: str, most: int) -> Call:
    """``limit_release.lua`` for the first jobs of a line."""
    return Call(lua.load("limit_release"), (*_SHARED, keys.gate(line)[2]), (line, most))
