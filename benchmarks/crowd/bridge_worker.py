"""A worker of the bridge without Celery and without threads: its parts are the product's own.

Its store, fetcher, watches, poller, heartbeat, lease, reaper and scheduler are those of a native worker. One
thread drives the parts of many workers, and a job ends as it begins.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery

from benchmarks.crowd.loop import Loop, Part
from bridge.broker.fanout import Fanout, topic
from bridge.broker.poller import Poller
from bridge.moves.follower import MoveFollower
from bridge.moves.store import MoveStore
from bridge.redis.minimal_client import MinimalRedis
from bridge.runtime import Runtime
from bridge.settings import Settings
from bridge.sidekiq.fetch.limit_fetch import LimitFetch
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.lease.keeper_main import LeaseKeys, Watch
from bridge.sidekiq.lease.reaper import Reaper
from bridge.sidekiq.outcome.decision import Done
from bridge.sidekiq.process.heartbeat import Heartbeat
from bridge.sidekiq.process.version_probe import teach
from bridge.sidekiq.schedule.due_watch import DueWatch
from bridge.sidekiq.schedule.scheduler import Scheduler
from bridge.sidekiq.store import lua
from bridge.worker.process_info import process_info

#: Celery's own event, and how often a worker sends it.
EVENT, EVENT_SECONDS = "worker.heartbeat", 2.0
#: As long as the text of that event.
EVENT_BYTES = b"e" * 640
#: Between two looks for changed moves: the thread of a real worker sleeps until Redis tells.
MOVES_SECONDS = 1.0
#: Workers of a fleet were started at different moments.
SPREAD_SECONDS = 2.0
_DONE = Done()


class _Moves(MoveFollower):
    def _sleep(self) -> None:
        """The loop waits, for all workers together."""


class BridgeWorker:
    """``app`` has the tasks; workers may share it."""

    def __init__(
        self, app: Celery, settings: Settings, loop: Loop, queues: Sequence[str], slots: int
    ) -> None:
        self._loop = loop
        self._queues = queues
        self.runtime = runtime = Runtime(app, settings)
        runtime.context.attach(self._run)
        self._fetcher = fetcher = runtime.fetcher
        for queue in queues:
            fetcher.order.add(queue)
        fetcher.in_flight.set_slots(slots)
        self._client = runtime.redis_client()
        self._due = 0.0
        part = Part(loop, self.turn)
        self._poller = Poller(runtime.context, fetcher, part, self._client, None, self._deliver)

    def start(self) -> None:
        """Register and begin."""
        runtime, lease = self.runtime, self.runtime.lease
        self._fanout = Fanout(self._client, 0)
        self._fanout.subscribe("mailbox", "celery.pidbox", "")
        teach(runtime.dialect, runtime.store.client, lease.identity)
        lease.ensure()
        self._heartbeat = Heartbeat(
            runtime.redis_client(), self._fetcher, lambda: process_info(runtime), runtime.metrics,
            lambda: runtime.dialect.metrics, lambda signal: None,
        )  # fmt: skip
        scripts = {name: _script(f"lease_{name}") for name in ("renew", "end")}
        keys = LeaseKeys(MinimalRedis(runtime.redis_address), scripts)
        self._keeper = Watch(keys, int(runtime.settings.lease_seconds * 1000))
        self._begin_rounds()
        self._poller.attend()
        self._loop.call_in(random.uniform(0, SPREAD_SECONDS), self.turn)

    def _begin_rounds(self) -> None:
        """The work of a worker's threads, each in its own rhythm."""
        runtime, fetcher = self.runtime, self._fetcher
        scheduler = Scheduler(
            runtime.store,
            lambda: runtime.dialect.timestamps,
            lambda: runtime.dialect.dead_limits,
            longest_sleep_seconds=runtime.settings.poll_interval_seconds,
            lease=runtime.lease,
            middleware=runtime.promotion,
            watch=DueWatch(runtime.store.client),
        )
        reaper = Reaper(
            runtime.store, runtime.lease, lambda: runtime.dialect.dead_limits, fetcher.loop_ticks,
            self._report, fetcher.reconciler.compare, runtime.limiter.lines.reaped,
        )  # fmt: skip
        limits = LimitFetch(
            runtime.redis_client(), lambda: runtime.lease.identity, lambda: self._queues,
            lambda: fetcher.rooms.held, lambda: None,
        )  # fmt: skip
        moves = _Moves(
            MoveStore(runtime.store.client), runtime.move_runs, runtime.shadows, lambda before, now: None
        )
        moves.read()

        def follow() -> float:
            moves.round()
            return MOVES_SECONDS

        rounds = (self._heartbeat.round, scheduler.round, reaper.round, limits.round, follow, self._tell)
        for work in rounds:
            self._loop.every(work, random.uniform(0, SPREAD_SECONDS))

    def _report(self, identity: str, progress: int) -> None:
        """The worker's line to its keeper, and the keeper's round."""
        self._keeper.heard(f"{identity} {progress}")
        self._keeper.renew_if_due(time.monotonic())

    def _tell(self) -> float:
        self._client.publish(topic(0, "celeryev", EVENT), EVENT_BYTES)
        return EVENT_SECONDS

    # -- jobs

    def turn(self) -> None:
        """As the transport's loop: turns until there is nothing to do, and the next one after its wait."""
        while self._poller.turn():
            pass
        due = time.monotonic() + self._poller.wait_seconds
        # One timer at a time: each job would leave another one behind.
        if due < self._due or self._due <= time.monotonic():
            self._due = due
            self._loop.call_in(self._poller.wait_seconds, self._turn_if_due)

    def _turn_if_due(self) -> None:
        if time.monotonic() >= self._due:
            self.turn()

    def _run(self, unit: UnitOfWork, channel: Any, is_deputy: bool) -> bool:
        token = unit.delivery.token
        self._fetcher.in_flight.started(token, time.time(), native=True)
        self._fetcher.settle(token, _DONE)
        return True

    def _deliver(self, unit: UnitOfWork) -> None:
        raise AssertionError("every job is begun at once")

    def stop(self) -> None:
        """End in order."""
        self._fetcher.stop()
        self._poller.detach()
        self._fetcher.flush(last=True)
        self._heartbeat.beat()
        self._heartbeat.clear()
        self.runtime.lease.leave()


def _script(name: str) -> tuple[str, str]:
    script = lua.load(name)
    return script.sha.decode(), script.text.decode()
