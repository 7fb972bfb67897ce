"""Commands of a worker that stops to the sidecars that run its Ruby jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.runtime import Runtime


class RunningJobs:
    """The Ruby jobs of this worker, wherever they run. Both calls block, and go to every Puma worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def ask_to_stop(self) -> None:
        """Ask them to stop at their next checkpoint. Jobs without checkpoints go on."""
        self._runtime.sidecar.quiet(self._runtime.lease.identity)

    def interrupt(self) -> None:
        """End them: at a checkpoint, or with Sidekiq::Shutdown."""
        for unit in self._runtime.fetcher.in_flight.running:
            if not self._runtime.routing.is_native(unit.job):
                self._runtime.sidecar.interrupt(unit.delivery)
