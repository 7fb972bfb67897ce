"""Effects: what else happens in the same step in which a job ends (a place is freed, a counter falls).

An effect is a Lua file that runs after the body of a settling script, in one script with it. The body itself
is unchanged, and a job without effects is settled by the body alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bridge.redis.scripts import Call, Script
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store import lua


class Effect(NamedTuple):
    """One call of ``lua/<script>.lua`` within a settlement.

    The file is the body of ``function(KEYS, ARGV, settled)``. It sees its own keys and arguments, and what
    the settling script returned. It runs only if the settlement took effect. Its errors never undo a
    settlement: Redis writes them to its log.
    """

    script: str
    keys: tuple[str, ...]
    args: tuple[str | bytes | int | float, ...]


EffectSource = Callable[[SidekiqJob, Decision, str, int], tuple[Effect, ...]]
"""The effects of one end: the job, the decision, and the identity and token under which a worker holds it.

The identity is empty and the token is 0 where the job waited in a queue or a set. An orphaned job's decision
is ``GiveBack(unknown_outcome=True)``: its script gives it back (``settled`` is 1) or buries it (2).
"""


class SettlementEffects:
    """Asked for each job that ends. Costs nothing while no source is registered."""

    def __init__(self) -> None:
        self.sources: list[EffectSource] = []
        """Asked about each job, on the hot path: one or two dictionary lookups for most of them."""
        self.fields: frozenset[str] = frozenset()
        """Fields of the jobs that the sources ``by_field`` are asked about, beside tracked jobs."""
        self.by_field: list[EffectSource] = []

    def add(self, source: EffectSource, field: str) -> None:
        """Ask this source about tracked jobs, and about jobs with this field of the payload."""
        self.by_field.append(source)
        self.fields |= {field}

    def of(
        self, job: SidekiqJob, decision: Decision, identity: str = "", token: int = 0
    ) -> tuple[Effect, ...]:
        """All effects of this end, in the order of the sources."""
        found: tuple[Effect, ...] = ()
        for source in (*self.by_field, *self.sources):
            if added := source(job, decision, identity, token):
                found += added
        return found


def with_effects(call: Call, effects: Sequence[Effect]) -> Call:
    """One call that settles, and then carries out the effects. Its result is that of ``call``."""
    if not effects:
        return call
    script = _composed(call.script.name, tuple(effect.script for effect in effects))
    parts = [(call.keys, call.args), *((effect.keys, effect.args) for effect in effects)]
    shape = " ".join(f"{len(keys)} {len(args)}" for keys, args in parts)
    return Call(
        script,
        [key for keys, _ in parts for key in keys],
        [shape, *(arg for _, args in parts for arg in args)],
    )


@functools.cache
def _composed(settling: str, effects: tuple[str, ...]) -> Script:
    """The script of a settling file and its effects.

    ARGV 1 tells how many KEYS and ARGV each part has. Each part gets its own share of them.
    """
    bodies = [f"function(KEYS, ARGV)\n{lua.text(settling)}\nend"]
    bodies += [f"function(KEYS, ARGV, settled)\n{lua.text(name)}\nend" for name in effects]
    listed = ",\n".join(bodies)
    return Script.of("+".join((settling, *effects)), f"local parts = {{\n{listed}\n}}\n{lua.text('effects')}")
