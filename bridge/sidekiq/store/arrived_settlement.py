"""Settlements of jobs that Redis has moved to a watch of a worker.

Such a job is held, and is not in the worker's hash yet. Most end there: ``settle_arrived.lua`` is the one
script call of their life. Any other settlement enters the job into the hash first, in the same round trip.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

from bridge.redis import scripts
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.decision import DeadLimits, Done
from bridge.sidekiq.store import large_claims, lua
from bridge.sidekiq.store.claims import ENTRY_VERSION
from bridge.sidekiq.store.settlement import Settled, Settlement, SettlementBatch
from bridge.sidekiq.store.settling_keys import processed_keys, utc_day


class MixedBatch:
    """As :class:`SettlementBatch`, for settlements of which some are of arrived jobs."""

    def __init__(
        self,
        settlements: Sequence[Settlement],
        batch: Callable[[Sequence[Settlement]], SettlementBatch],
        ahead: float,
    ) -> None:
        """``batch`` makes the calls of those that other scripts settle."""
        self._lists: dict[str, list[int]] = {}
        own: list[int] = []
        """Large jobs, each in a list of its own."""
        self._batches: list[tuple[Sequence[int], SettlementBatch]] = []
        """Settlements by other scripts than ``settle_arrived.lua``; nearly always there are none."""
        self.calls: list[scripts.Call] = []
        others = []
        for i, settlement in enumerate(settlements):
            if settlement.arrived is not None and _is_short(settlement):
                key = settlement.arrived.key
                identity = settlement.identity
                is_own = key.startswith(large_claims.OWN, key.index(identity) + len(identity) + 1)
                (own if is_own else self._lists.setdefault(key, [])).append(i)
            else:
                others.append(i)
        # Given back jobs run again in this order. Finished ones come first: one call settles them all.
        others.sort(key=lambda i: not _is_finished(settlements[i]))
        for first, members in itertools.groupby(others, key=lambda i: i if settlements[i].arrived else -1):
            run = list(members)
            self._batches.append((run, made := batch([settlements[i] for i in run])))
            if arrived := settlements[first].arrived if first >= 0 else None:
                self.calls.append(_entering(made.calls[0], arrived.key, settlements[first]))
            else:
                self.calls += made.calls
        self.has_notices = any(members.has_notices for _, members in self._batches)
        """Whether a call adds a notice for Ruby, if it takes effect."""
        day = utc_day(int((time.time() + ahead) // 86_400))
        self.calls += [
            _settle_call(key, [settlements[i].payload for i in members], day)
            for key, members in self._lists.items()
        ]
        if own:
            self._lists[""] = own
            lists = [arrived.key for i in own if (arrived := settlements[i].arrived) is not None]
            self.calls.append(large_claims.settle_call(lists, day))

    def outcomes(self, results: Sequence[Any]) -> list[Settled]:
        """One outcome for each settlement, in their order."""
        answers = iter(results)
        outcomes: dict[int, Settled] = {}
        for members, batch in self._batches:
            settled = batch.outcomes([next(answers) for _ in batch.calls])
            outcomes |= zip(members, settled, strict=True)
        for members, fenced in zip(self._lists.values(), answers, strict=True):
            outcomes |= {i: _outcome(number, fenced) for number, i in enumerate(members)}
        return [outcomes[i] for i in sorted(outcomes)]


def enter_call(inflight: str, key: str, token: int, queue: str, payload: bytes) -> scripts.Call:
    """One job from its list into the hash of its worker."""
    args = (token, entry_prefix(queue), payload)
    return scripts.Call(lua.load("arrived_enter"), (inflight, key), args)


def entry_prefix(queue: str) -> bytes:
    """Return the bytes that the hash has before a payload."""
    return b"%s\n%s\n" % (ENTRY_VERSION, queue.encode())


def settlement_batch(
    settlements: Sequence[Settlement],
    dead_limits: Callable[[], DeadLimits],
    ahead: float = 0.0,
    *,
    tells_ruby: bool = False,
) -> SettlementBatch | MixedBatch:
    """The calls of these settlements."""
    batch = functools.partial(SettlementBatch, dead_limits=dead_limits, ahead=ahead, tells_ruby=tells_ruby)
    if any(settlement.arrived for settlement in settlements):
        return MixedBatch(settlements, batch, ahead)
    return batch(settlements)


def _is_short(settlement: Settlement) -> bool:
    arrived, decision = settlement.arrived, settlement.decision
    return (
        arrived is not None and not arrived.has_row and isinstance(decision, Done) and not settlement.effects
    )


def _is_finished(settlement: Settlement) -> bool:
    return settlement.arrived is None and isinstance(settlement.decision, Done) and not settlement.effects


def _outcome(number: int, fenced: Any) -> Settled:
    if not isinstance(fenced, list):
        return Settled.FAILED
    return Settled.FENCED if number in fenced else Settled.OK


def _settle_call(key: str, payloads: Sequence[bytes], day: str) -> scripts.Call:
    names = (key, *processed_keys(day))
    return scripts.Call(lua.load("settle_arrived"), names, (keys.STAT_TTL_SECONDS, *payloads))


def _entering(call: scripts.Call, key: str, settlement: Settlement) -> scripts.Call:
    """One script that enters a job into the hash, the first key of each that settles, and then settles it.

    Two calls would not do: where Redis has forgotten the first script, the second would find no job.
    """
    enter = enter_call(call.keys[0], key, *settlement[1:4])
    return scripts.Call(_composed(call.script), [*enter.keys, *call.keys], [*enter.args, *call.args])


@functools.cache
def _composed(settling: scripts.Script) -> scripts.Script:
    text = lua.text("enter_and_settle")
    for place, part in (("--@enter", lua.text("arrived_enter")), ("--@settle", settling.text.decode())):
        text = text.replace(place, part)
    return scripts.Script.of(f"arrived_enter+{settling.name}", text)
