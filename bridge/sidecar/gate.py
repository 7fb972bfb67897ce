"""Says which jobs may leave their queues: while no sidecar can run them, native ones only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.sidecar.breaker import Breaker, State
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision, GiveBack
from bridge.sidekiq.payload.job import SidekiqJob

_OPEN, _HALF_OPEN = State.OPEN, State.HALF_OPEN


class SidecarGate:
    """The fetcher's gate. ``needs_no_sidecar`` says whether a job runs in Python alone."""

    def __init__(
        self,
        breaker: Breaker,
        needs_no_sidecar: Callable[[SidekiqJob], bool],
        joins_ruby: Callable[[SidekiqJob], bool] = lambda job: False,
    ) -> None:
        """``joins_ruby``: whether the Python code of a job's class runs inside Ruby's middleware."""
        self._breaker = breaker
        self.admits = needs_no_sidecar
        """Jobs that run in Python alone never wait for the sidecar."""
        self._joins_ruby = joins_ruby
        self.restricts = True
        self.follow()

    def follow(self) -> None:
        """The breaker's state has changed. Called by any thread."""
        self.restricts = self._breaker.state is not State.CLOSED

    def limit(self) -> int | None:
        """None leaves for a sidecar that does not answer; one goes first when it has just come back."""
        state = self._breaker.state
        return 0 if state is _OPEN else 1 if state is _HALF_OPEN else None

    def settled(self, decided: Sequence[tuple[UnitOfWork, Decision]]) -> None:
        """A Ruby job that has run closes the circuit."""
        if any(self._passed_a_sidecar(unit, decision) for unit, decision in decided):
            self._breaker.passed()

    def _passed_a_sidecar(self, unit: UnitOfWork, decision: Decision) -> bool:
        ran = unit.started_at is not None and not isinstance(decision, GiveBack)
        # The unit knows its side. A move that has changed since may name the other one.
        return ran and (not unit.native or self._joins_ruby(unit.job))
