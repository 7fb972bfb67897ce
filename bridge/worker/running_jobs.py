"""Commands of a worker that stops to its running jobs: in the sidecars, and coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.execution.outcomes import Settle
from bridge.sidekiq.outcome.decision import GiveBack

if TYPE_CHECKING:
    from bridge.runtime import Runtime


class RunningJobs:
    """The jobs of this worker, wherever they run. Both calls block, and go to every Puma worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def ask_to_stop(self) -> None:
        """Ask them to stop at their next checkpoint. Jobs without checkpoints go on."""
        self._runtime.sidecar.quiet(self._runtime.lease.identity)

    def interrupt(self) -> None:
        """End them: Ruby jobs at a checkpoint or with Sidekiq::Shutdown, coroutines at their next await."""
        self._runtime.coroutines.end_all(lambda: Settle(GiveBack()))
        for unit in self._runtime.fetcher.in_flight.running:
            if not unit.native or self._runtime.routing.joins_ruby(unit.job):
                self._runtime.sidecar.interrupt(unit.delivery)
