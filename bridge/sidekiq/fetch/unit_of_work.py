"""A job in this process's hands."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bridge.errors import PayloadError
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.payload.job import SidekiqJob

#: A job that has run for this time gets a row on the Busy page.
ROW_SECONDS = 0.5


class Delivery(NamedTuple):
    """One handing-over of one job: what the pool side needs to know of it. Crosses process borders."""

    identity: str
    token: int
    queue: str
    payload: bytes
    claimed_at_ms: int
    recovered: int = 0
    tracked: bool = False
    """Whether the run is to report its result."""
    shadowed: bool = False
    """Whether Ruby is to say what the job returns, for the shadow of a move alone: nothing is stored."""

    @property
    def is_reported(self) -> bool:
        """Whether Ruby is to say what the job returns."""
        return self.tracked or self.shadowed

    @property
    def name(self) -> str:
        """``<identity>/<token>``, as the sidecar's protocol writes it."""
        return f"{self.identity}/{self.token}"


@dataclass(slots=True, weakref_slot=True)
class UnitOfWork:
    """A job in this process's hands, from claim to settlement."""

    delivery: Delivery
    job: SidekiqJob
    started_at: float | None = None
    """Epoch seconds, set when a pool slot has begun to run it."""
    began: float | None = None
    """The same moment on a clock that is never set: durations count from it."""
    run_seconds: float | None = None
    """How long its slot was busy with it, once that let go of it."""
    run_ms: float | None = None
    """The sidecar's own figure for the run: without the network and without the wait for a slot."""
    decision: Decision | None = None
    arrived: str = ""
    """Key of the list in which the job still is: a watch has taken it. Empty: it is in the hash."""
    may_have_row: bool = False
    """Whether the Busy page may show it, now that its slot is free."""
    native: bool = False
    """Whether it runs, or ran, in Python; known once it has started."""
    log_context: dict[str, Any] = field(default_factory=dict)
    """How log lines name it; filled for the line at its start and kept for the one at its end."""

    @classmethod
    def stray(cls, delivery: Delivery) -> UnitOfWork:
        """A unit for bytes that this process has not read yet; they may be no job."""
        try:
            return cls(delivery, SidekiqJob.parse(delivery.payload))
        except PayloadError:
            return cls(delivery, SidekiqJob.unreadable(delivery.payload))

    @property
    def id(self) -> str:
        """The jid; for a job without one, the name of its delivery."""
        return self.job.jid or self.delivery.name

    @property
    def seconds(self) -> float:
        """How long it has run until now; 0 before it."""
        return 0.0 if self.began is None else time.monotonic() - self.began


class Fetched(NamedTuple):
    """Result of one turn: new jobs, and whether the queues are known to be empty now."""

    units: tuple[UnitOfWork, ...] = ()
    drained: bool = False
    paused: frozenset[str] = frozenset()
    claimed: bool = False
    """Whether a claim was made, or would have been had anything been allowed to leave its queue."""
    adopted: bool = False
    """Whether this turn looked for what was claimed before, and claimed nothing."""
    may_claim: bool = True
    """Whether a slot was free, and there was a queue to take a job from, when the turn began."""


NOTHING_TO_DO = Fetched(drained=True)
NO_FREE_SLOT = Fetched(drained=True, may_claim=False)
"""Nothing to do either, and no job may be taken before a slot is free."""
