"""The threads of a worker beside its consumer's, and what works in them."""

from __future__ import annotations

from collections.abc import Callable

from bridge.periodic import Periodic
from bridge.sidekiq.lease.reaper import Reaper
from bridge.sidekiq.process.heartbeat import Heartbeat
from bridge.sidekiq.schedule.scheduler import Scheduler


class Background:
    """Filled by the worker's bootsteps. Each part is None until its step has made it."""

    def __init__(self) -> None:
        self.threads: dict[str, Periodic] = {}
        self.heartbeat: Heartbeat | None = None
        self.scheduler: Scheduler | None = None
        self.reaper: Reaper | None = None
        self._give_up: Callable[[str], None] = lambda reason: None
        self._quiet: Callable[[], None] = lambda: None

    def attach(
        self,
        thread: Periodic,
        *,
        heartbeat: Heartbeat | None = None,
        scheduler: Scheduler | None = None,
        reaper: Reaper | None = None,
        give_up: Callable[[str], None] | None = None,
        quiet: Callable[[], None] | None = None,
    ) -> None:
        """A bootstep has made this thread and its work.

        ``give_up`` ends the worker, with a reason; ``quiet`` lets it take no more jobs.
        """
        self.threads[thread.name] = thread
        self.heartbeat = heartbeat or self.heartbeat
        self.scheduler = scheduler or self.scheduler
        self.reaper = reaper or self.reaper
        self._give_up = give_up or self._give_up
        self._quiet = quiet or self._quiet

    def nudge(self, name: str) -> None:
        """Have the next round of this thread now, if it runs."""
        thread = self.threads.get(name)
        if thread is not None:
            thread.nudge()

    def promoting(self) -> frozenset[int]:
        """Tokens of due entries that the scheduler has taken out of their sets."""
        return self.scheduler.promoting if self.scheduler is not None else frozenset()

    def give_up(self, reason: str) -> None:
        """End this worker, for another to start in its place."""
        self._give_up(reason)

    def quiet(self) -> None:
        """Take no more jobs, and ask running ones to stop at their next checkpoint."""
        self._quiet()
