"""USR2: new processes take over from the old ones, one at a time, and no job is lost or run again.

A new sidecar on a socket of its own starts first. Each new worker uses it, and is ready before the old one
gets TERM. The old sidecar ends after the last old worker: a running job keeps the sidecar that runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from signal import Signals
from typing import Protocol

from bridge.supervisor.processes import Child
from bridge.supervisor.programs import Plan, Program
from bridge.supervisor.slot import Slot


class Team(Protocol):
    """The supervised processes, as a rolling restart changes them."""

    sidecars: list[Slot]
    workers: list[Slot]
    worker_seconds: float

    def new_sidecar(self) -> Slot: ...

    def retire(self, slot: Slot) -> None: ...

    def say(self, message: str, level: str = "INFO") -> None: ...


Steps = Generator[None, None, bool]
"""Each step waits for one process; the end says whether all went well."""


class RollingRestart:
    """One rolling restart. ``steps`` goes on where it waited; it never blocks."""

    def __init__(self, team: Team, plan: Plan, start: Callable[[Program], Child]) -> None:
        self._team, self._plan, self._start = team, plan, start

    def steps(self) -> Steps:
        """The whole restart."""
        team = self._team
        team.say("rolling restart begins")
        former = [*team.sidecars]
        if former and not (yield from self._new_sidecar(former)):
            return False
        for slot in team.workers:
            if not (yield from self._replace(slot)):
                self._drop_unused()
                return False
        for old in former if self._plan.sidecar_is_renewable else ():
            team.retire(old)
            while old.child is not None and old.child.is_alive:
                yield
        team.say("rolling restart finished")
        return True

    def _new_sidecar(self, former: list[Slot]) -> Steps:
        team = self._team
        if not self._plan.sidecar_is_renewable:
            team.say(
                "BRIDGE_SIDECAR_METRICS_BIND is one address for one sidecar: it replaces its Puma workers "
                "itself (HUP), with the app's code as it was loaded"
            )
            for slot in former:
                if slot.child is not None:
                    slot.child.signal(Signals.SIGHUP)
            return True
        slot = team.new_sidecar()
        slot.child = child = self._start(slot.program)
        while child.is_alive and not child.is_ready:
            yield
        if child.is_alive:
            team.sidecars.append(slot)
        else:
            self._give_up(child)
        return child.is_alive

    def _replace(self, slot: Slot) -> Steps:
        sidecars = self._team.sidecars
        url = sidecars[-1].program.sidecar_url if sidecars else None
        child = self._start(self._plan.worker(slot.number, url))
        while child.is_alive and not child.is_ready:
            yield
        if not child.is_alive:
            self._give_up(child)
            return False
        old = slot.take(child)
        if old is not None:
            old.leave(Signals.SIGTERM, self._team.worker_seconds)
            while old.is_alive:
                yield
        return True

    def _give_up(self, child: Child) -> None:
        self._team.say(
            f"rolling restart given up: the new {child.end_in_words()}. The old processes go on", "ERROR"
        )

    def _drop_unused(self) -> None:
        """End a new sidecar that no worker uses yet."""
        used = {slot.program.sidecar_url for slot in self._team.workers}
        for slot in [*self._team.sidecars]:
            if slot.program.sidecar_url not in used:
                self._team.retire(slot)
