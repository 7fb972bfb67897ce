"""Settlements: what becomes of a delivery, as calls of the settlement scripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from bridge.redis import scripts
from bridge.sidekiq import keys
from bridge.sidekiq.outcome import decision as decisions
from bridge.sidekiq.outcome.decision import Bury, DeadLimits, Decision, Discard, Done, GiveBack
from bridge.sidekiq.outcome.notice import Notice
from bridge.sidekiq.outcome.poison_pill import NOTICE
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.effects import Effect, with_effects
from bridge.sidekiq.store.notices import telling
from bridge.sidekiq.store.settling_keys import settling_keys, utc_day

RECOVERED_TTL_SECONDS = 72 * 3600
_STAT_TTL = str(keys.STAT_TTL_SECONDS)
#: The answer of settle_orphan.lua where it did so.
RECOVER_BURIED = 2


class Arrived(NamedTuple):
    """A job that is still in the list of the watch that took it."""

    key: str
    has_row: bool
    """Whether the Busy page may show it."""


class Settlement(NamedTuple):
    """The decision about one delivery; ``payload`` is the job's exact bytes, ``jid`` names its counter."""

    identity: str
    token: int
    queue: str
    payload: bytes
    decision: Decision
    jid: str = ""
    poison: bytes = b""
    recovered: bool = False
    """Whether the next delivery, too, asks every sidecar first."""
    effects: tuple[Effect, ...] = ()
    """Carried out in the step in which this takes effect."""
    arrived: Arrived | None = None
    """The list of a watch that still holds the job; None: the hash of its worker does."""

    @property
    def name(self) -> str:
        """That of the delivery: ``<identity>/<token>``."""
        return f"{self.identity}/{self.token}"


class Settled(Enum):
    """How a settlement ended."""

    OK = "ok"
    FENCED = "fenced"
    BURIED = "buried"
    """It was to be given back, its outcome unknown, too often: a poison pill."""
    FAILED = "failed"
    """Redis refused it (outage, a key of a wrong type): the job is still in flight, try again."""


class SettlementBatch:
    """Turns settlements into script calls and the calls' results back into outcomes."""

    def __init__(
        self,
        settlements: Sequence[Settlement],
        dead_limits: Callable[[], DeadLimits],
        ahead: float = 0.0,
        *,
        tells_ruby: bool = False,
    ) -> None:
        """``ahead``: seconds by which Redis' clock is before ours. ``tells_ruby``: whether to add notices."""
        self._settlements = settlements
        self._tells_ruby = tells_ruby
        self._single: list[int] = []
        self._finished: dict[str, list[int]] = {}
        for i, settlement in enumerate(settlements):
            if type(settlement.decision) is Done and not settlement.effects:
                self._finished.setdefault(settlement.identity, []).append(i)
            else:
                self._single.append(i)
        now = time.time() + ahead
        day = utc_day(int(now // 86_400))
        self.calls = [
            _finish_call(identity, [settlements[i].token for i in members], day)
            for identity, members in self._finished.items()
        ]
        self.calls += [self._single_call(settlements[i], now, day, dead_limits, ahead) for i in self._single]
        self.has_notices = (
            tells_ruby and bool(self._single) and any(keys.NOTICES in call.keys for call in self.calls)
        )
        """Whether a call adds a notice for Ruby, if it takes effect."""

    def outcomes(self, results: Sequence[Any]) -> list[Settled]:
        """One outcome for each settlement, in their order."""
        batches = len(self._finished)
        if len(results) == batches and all(fenced == [] for fenced in results):
            return [Settled.OK] * len(self._settlements)
        outcomes = [Settled.FAILED] * len(self._settlements)
        for members, fenced in zip(self._finished.values(), results[:batches], strict=True):
            if isinstance(fenced, list):
                gone = {int(token) for token in fenced}
                for i in members:
                    outcomes[i] = Settled.FENCED if self._settlements[i].token in gone else Settled.OK
        for i, result in zip(self._single, results[batches:], strict=True):
            outcomes[i] = _outcome(self._settlements[i].decision, result)
        return outcomes

    def _single_call(
        self, settlement: Settlement, now: float, day: str, limits: Callable[[], DeadLimits], ahead: float
    ) -> scripts.Call:
        decision = settlement.decision
        if isinstance(decision, GiveBack) and decision.unknown_outcome:
            return recover_call(settlement, limits(), now, tells_ruby=self._tells_ruby)
        call = _single_call(settlement, now, day, limits, ahead)
        notice: Notice | None = getattr(decision, "notice", None) if self._tells_ruby else None
        if notice is not None:
            noted = notice.entry(settlement.name, settlement.queue, settlement.payload)
            call = telling(call, noted, notice.most)
        return with_effects(call, settlement.effects) if settlement.effects else call


def _outcome(decision: Decision, result: Any) -> Settled:
    if isinstance(result, list):  # settle_done's tokens that were not held
        return Settled.FENCED if result else Settled.OK
    if not isinstance(result, int):
        return Settled.FAILED
    if isinstance(decision, GiveBack) and result == RECOVER_BURIED:
        return Settled.BURIED
    return Settled.OK if result else Settled.FENCED


def _finish_call(identity: str, tokens: Sequence[int], day: str) -> scripts.Call:
    args = (_STAT_TTL, *map(str, tokens))  # texts: packed without a look at each
    return scripts.Call(lua.load("settle_done"), settling_keys(identity, day), args)


def _single_call(
    settlement: Settlement, now: float, day: str, dead_limits: Callable[[], DeadLimits], ahead: float
) -> scripts.Call:
    shared = settling_keys(settlement.identity, day)
    match settlement.decision:
        case Done():
            return _finish_call(settlement.identity, [settlement.token], day)
        case decisions.Retry(at=at, payload=payload):
            return _set_call(shared, settlement.token, (1, 1), keys.RETRY, (at + ahead, payload, "", ""))
        case Bury(payload=payload, limits=own_limits, ran=ran):
            limits = own_limits or dead_limits()
            trims = (now - limits.timeout_seconds, -limits.max_jobs)
            counts = (1, 1) if ran else (0, 0)
            return _set_call(shared, settlement.token, counts, keys.DEAD, (now, payload, *trims))
        case Discard():
            return _set_call(shared, settlement.token, (1, 1), keys.DEAD, ("", b"", "", ""))
        case decisions.Interrupt(payload=payload):
            return _queue_call(shared, settlement, (1, 1), "LPUSH", payload)
        case decisions.Postpone(queue=queue, at=None):
            settlement = settlement._replace(queue=queue or settlement.queue)
            return _queue_call(shared, settlement, (0, 0), "LPUSH", settlement.payload)
        case decisions.Postpone(payload=payload, at=float(at)):
            entry = (at + ahead, payload or settlement.payload, "", "")
            return _set_call(shared, settlement.token, (0, 0), keys.SCHEDULE, entry)
        case _:
            return _queue_call(shared, settlement, (0, 0), "RPUSH", settlement.payload)


def _set_call(
    shared: tuple[str, ...],
    token: int,
    counts: tuple[int, int],
    target: str,
    rest: tuple[float | str | bytes, ...],
) -> scripts.Call:
    args = (token, keys.STAT_TTL_SECONDS, *counts, *rest)
    return scripts.Call(lua.load("settle_to_set"), (*shared, target), args)


def put_off_call(identity: str, token: int, target: str, at: float, payload: bytes) -> scripts.Call:
    """A due entry into ``schedule`` or ``retry`` again. Nothing is counted."""
    shared = settling_keys(identity, utc_day(0))
    return _set_call(shared, token, (0, 0), target, (at, payload, "", ""))


def _queue_call(
    shared: tuple[str, ...], settlement: Settlement, counts: tuple[int, int], command: str, payload: bytes
) -> scripts.Call:
    return scripts.Call(
        lua.load("settle_to_queue"),
        (*shared, keys.queue(settlement.queue), keys.QUEUES, keys.RECOVERING),
        (
            settlement.token,
            keys.STAT_TTL_SECONDS,
            *counts,
            command,
            payload,
            settlement.jid if settlement.recovered and command == "RPUSH" else "",
            RECOVERED_TTL_SECONDS,
        ),
    )


def give_back_call(settlement: Settlement) -> scripts.Call:
    """A job of a dead worker that never began: back to its queue, and nothing is counted."""
    shared = settling_keys(settlement.identity, utc_day(0))
    call = _queue_call(shared, settlement, (0, 0), "RPUSH", settlement.payload)
    return with_effects(call, settlement.effects)


def recover_call(
    settlement: Settlement, limits: DeadLimits, now: float, *, tells_ruby: bool = False
) -> scripts.Call:
    """Give an orphaned job back, or bury it the third time."""
    call = scripts.Call(
        lua.load("settle_orphan"),
        (
            keys.inflight(settlement.identity),
            keys.queue(settlement.queue),
            keys.recovered(settlement.jid or f"token:{settlement.identity}:{settlement.token}"),
            keys.DEAD,
            keys.QUEUES,
            keys.RECOVERING,
        ),
        (
            settlement.token,
            settlement.payload,
            RECOVERED_TTL_SECONDS,
            limits.poison_pill,
            settlement.poison if limits.poison_pill else b"",
            now,
            now - limits.timeout_seconds,
            -limits.max_jobs,
            settlement.jid,
        ),
    )
    if tells_ruby and settlement.poison:
        call = telling(call, NOTICE.entry(settlement.name, settlement.queue, b""), NOTICE.most)
    return with_effects(call, settlement.effects)
