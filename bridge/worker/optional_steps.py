"""Bootsteps for what some jobs or configurations need."""

from __future__ import annotations

import contextlib
from typing import Any

from bridge import errors
from bridge.periodic import Periodic
from bridge.sidecar.health import Health
from bridge.sidekiq.fetch.cooldowns import Cooldowns
from bridge.sidekiq.fetch.limit_fetch import LimitFetch
from bridge.sidekiq.fetch.rooms import RoomSource
from bridge.worker.bootsteps import BridgeStep, Sidecar


class Notices(BridgeStep):
    """Tells Ruby how jobs ended in Python, or in the hands of a worker.

    The thread sleeps until a job of this worker ends so, or the heartbeat sees that a notice waits.
    """

    requires = (Sidecar,)

    def include_if(self, c: Any) -> bool:
        """Only where a sidecar is configured."""
        return self.runtime(c).store.tells_ruby

    def make(self, c: Any) -> Periodic:
        """Make the thread."""
        runtime = self.runtime(c)
        thread = Periodic("notices", runtime.teller.round)
        runtime.background.attach(thread)
        return thread


class Limits(BridgeStep):
    """Moves on the jobs that wait at limits. Its thread sleeps while there are none."""

    def make(self, c: Any) -> Periodic:
        """Make the thread."""
        runtime = self.runtime(c)
        thread = Periodic("limits", runtime.limiter.round)
        runtime.background.attach(thread)
        return thread

    def stop(self, c: Any) -> None:
        """Other workers move them on, or the end of this worker does."""
        if self.thread is not None:
            self.thread.stop()


class Moves(BridgeStep):
    """Follows the moves of classes, which another process may change at any moment."""

    def make(self, c: Any) -> Periodic:
        """Read the moves once before the first job is taken, then follow them."""
        work = self.runtime(c).moves
        work.read()
        thread = Periodic("moves", work.round, pause_after_error_seconds=0.5)
        self.runtime(c).background.attach(thread)
        return thread

    def shutdown(self, c: Any) -> None:
        """End the thread, and write the last counts."""
        self.runtime(c).moves.interrupt()
        super().shutdown(c)
        if self.thread is not None:
            self.runtime(c).moves.close()


class Results(BridgeStep):
    """Notes which tracked jobs run. The thread starts with the first of them if no class is declared."""

    def make(self, c: Any) -> Periodic:
        """Tell other processes at once which classes are tracked."""
        tracker = self.runtime(c).tracker
        tracker.announce()
        return tracker.thread

    def start(self, c: Any) -> None:
        """Begin, if a class is declared."""
        if self.runtime(c).tracked.classes:
            super().start(c)


class QueueLimits(BridgeStep):
    """Keeps the limits of queues that gems of the app have: sidekiq-limit_fetch and sidekiq-throttled."""

    def make(self, c: Any) -> Periodic:
        """Look once before the first job is taken."""
        runtime, queues = self.runtime(c), c.app.amqp.queues
        rooms, self.listeners = runtime.fetcher.rooms, runtime.listeners

        def changed(source: RoomSource) -> None:
            rooms.add(source)
            runtime.fetcher.wake()

        self.cooldowns = Cooldowns(lambda: changed(self.cooldowns))
        self.work = LimitFetch(
            runtime.redis_client(),
            lambda: runtime.lease.identity,
            lambda: list(queues.consume_from),
            lambda: rooms.held,
            lambda: changed(self.work),
        )
        runtime.on_health.append(self._learn)
        with contextlib.suppress(errors.StoreError):  # the thread tries again
            self.work.round()
        thread = Periodic("queue-limits", self.work.round)
        runtime.background.attach(thread)
        return thread

    def _learn(self, health: Health) -> None:
        if "sidekiq-limit_fetch" in health.gems and self.work.expect() and self.thread is not None:
            self.thread.nudge()
        if "sidekiq-throttled" in health.gems and self.cooldowns.settled not in self.listeners.settled:
            self.listeners.settled.append(self.cooldowns.settled)

    def shutdown(self, c: Any) -> None:
        """The places of this worker are free at once."""
        super().shutdown(c)
        if self.thread is not None:
            with contextlib.suppress(errors.StoreError):
                self.work.leave()


class Sentinels(BridgeStep):
    """Follows a failover by Sentinel, also one that cuts no connection."""

    def include_if(self, c: Any) -> bool:
        """Only where there are sentinels."""
        return self.runtime(c).follower is not None

    def make(self, c: Any) -> Periodic:
        """Make the watch."""
        follower = self.runtime(c).follower
        assert follower is not None
        thread = Periodic("sentinels", follower.round)
        self.runtime(c).background.attach(thread)
        return thread
