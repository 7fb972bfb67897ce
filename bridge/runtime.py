"""The composition root: makes each part of a worker once, from the settings, when it is first asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import redis

from bridge import __version__
from bridge.batches.effects import FIELD as BATCH_FIELD
from bridge.batches.effects import effects as batch_effects
from bridge.broker.context import BrokerContext
from bridge.errors import PushRefused
from bridge.execution.cancellation import Cancellation
from bridge.execution.coroutine_loop import CoroutineLoop
from bridge.execution.limit_parts import LimitParts
from bridge.execution.move_parts import MoveParts
from bridge.execution.task_policy import TaskPolicy
from bridge.execution.time_limits import TimeLimits
from bridge.redis.client import RedisAddress, connect, follower
from bridge.redis.sentinel import MasterFollower
from bridge.results import expiry
from bridge.results.following import FIELD as FOLLOWING_FIELD
from bridge.results.following import Following
from bridge.results.results import Results
from bridge.results.status_gem import ANNOUNCED, StatusGem
from bridge.results.tracker import Tracker
from bridge.routing import Routing
from bridge.settings import Settings
from bridge.settings.overrides import overrides
from bridge.sidecar.cron_notice import CronNotice
from bridge.sidecar.gate import SidecarGate
from bridge.sidecar.parts import SidecarParts
from bridge.sidekiq.fetch.capsules import Capsules
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.listeners import JobListeners
from bridge.sidekiq.lease.identity import new_identity
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.outcome.dialect import Dialect
from bridge.sidekiq.payload.tracked import FIELD as TRACK_FIELD
from bridge.sidekiq.payload.tracked import Tracked
from bridge.sidekiq.process.background import Background
from bridge.sidekiq.process.metrics import JobMetrics
from bridge.sidekiq.process.push_counts import Pushes
from bridge.sidekiq.store.store import RedisStore

if TYPE_CHECKING:
    from celery import Celery


class Runtime(SidecarParts, MoveParts, LimitParts):
    """All parts of one process; ``app.bridge``. They may be replaced before the worker starts."""

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        *,
        allow_purge: Callable[[str], bool] = lambda queue: False,
        refusal: type[Exception] = PushRefused,
    ) -> None:
        self.app = app
        self._allow_purge = allow_purge
        self._refusal = refusal
        self.settings = settings
        self.started_at = time.time()
        self._began = time.monotonic()
        self.metrics = JobMetrics()
        self.pushes = Pushes()
        self.dialect = Dialect(overrides(settings), settings.has_sidecar)
        self.listeners = JobListeners()
        self.listeners.settled.append(self.metrics.settled)
        self.background = Background()
        self.pool_has_processes = False
        """Whether Celery's prefork runs the native tasks, and so ends them."""
        self.routing = Routing(app, lambda: settings.has_sidecar and not self.breaker.is_open)
        self.tracked = Tracked(settings.track)
        self.listeners.tracked.append(self.tracker.started)
        self.on_health = [CronNotice().say, self.status_gem.learn]
        self.task_policy = TaskPolicy(app)

    @property
    def age_seconds(self) -> float:
        """Since the start of this process, by a clock that is never set."""
        return time.monotonic() - self._began

    def attach_pool(self, pool: Any) -> None:
        """This pool runs the jobs."""
        self.pool_has_processes = pool.__module__.endswith(".prefork")

    # -- Redis

    @cached_property
    def redis_address(self) -> RedisAddress:
        """Where Sidekiq's Redis is."""
        return self.settings.redis_address

    def redis_client(self) -> redis.Redis:
        """A new client with a pool of its own."""
        return connect(self.redis_address, self.follower)

    @cached_property
    def follower(self) -> MasterFollower | None:
        """Keeps the connections at the master that Sentinel names; None without Sentinel."""
        return follower(self.redis_address)

    @cached_property
    def store(self) -> RedisStore:
        """The job store."""
        look = self.follower.look_if_due if self.follower is not None else lambda: None
        made = RedisStore(self.redis_client(), lambda: self.dialect.dead_limits, look)
        following = Following(lambda: self.dialect.timestamps, made.now)
        made.effects.add(self.tracker.effects, TRACK_FIELD)
        made.effects.add(following.effects, FOLLOWING_FIELD)
        made.effects.add(batch_effects, BATCH_FIELD)  # last: a chord reads the result that was written before
        self.add_limits(made)
        made.tell_ruby(self.settings.has_sidecar, partial(self.background.nudge, "notices"))
        return made

    # -- results

    @cached_property
    def results(self) -> Results:
        """Results and progress of tracked jobs."""
        return Results(self.tracked, lambda: self.store, self.result_ttl_seconds)

    @cached_property
    def tracker(self) -> Tracker:
        """Notes that tracked jobs run, and how they end."""
        return Tracker(self.tracked, lambda: self.results.store, lambda: self.result_ttl_seconds)

    @cached_property
    def status_gem(self) -> StatusGem:
        """Writes the ends of native jobs for the gem sidekiq-status."""
        announce = partial(self.tracker.also_announce, ANNOUNCED)
        return StatusGem(lambda: self.store.effects, self.tracked, self.routing.needs_no_sidecar, announce)

    @cached_property
    def result_ttl_seconds(self) -> int:
        """How long a result stays: ours, or Celery's ``result_expires`` where the user has set it."""
        return expiry.seconds(self.app.conf.result_expires)

    # -- jobs

    @cached_property
    def lease(self) -> Lease:
        """This worker's right to hold jobs."""
        return Lease(self.store, new_identity, self.settings.lease_seconds)

    @cached_property
    def gate(self) -> SidecarGate:
        """Says which jobs may leave their queues while no sidecar answers."""
        return SidecarGate(self.breaker, self.routing.needs_no_sidecar, self.routing.joins_ruby)

    @cached_property
    def capsules(self) -> Capsules:
        """The capsules of ``config/sidekiq.yml``, and those that the app declares as it starts."""
        return Capsules(self.settings.file.capsules)

    def _follow_breaker(self) -> None:
        self.gate.follow()
        self.fetcher.wake()

    @cached_property
    def fetcher(self) -> Fetcher:
        """The holder of this process's jobs."""
        made = Fetcher(
            self.store,
            self.lease,
            self.gate,
            listeners=self.listeners,
            timestamps=lambda: self.dialect.timestamps,
            promoting=self.background.promoting,
        )
        if self.capsules.limited:
            made.rooms.add(self.capsules)
        if self.limiter.queues.limited:
            made.rooms.add(self.limiter.queues)
        made.in_flight.tracked = self.tracked
        self.limiter.keep_order(made)
        return made

    @cached_property
    def cancellation(self) -> Cancellation:
        """Ends jobs whose time is up, or that a person revoked."""
        return Cancellation(
            self.fetcher,
            TimeLimits(self.settings.time_limits),
            lambda: self.sidecar,
            give_up=self.background.give_up,
            hurry=lambda: self.background.nudge("time-limits"),
        )

    @cached_property
    def coroutines(self) -> CoroutineLoop:
        """The event loop of coroutine tasks; its thread starts with the first of them."""
        return CoroutineLoop(self.app)

    # -- the transport

    @cached_property
    def context(self) -> BrokerContext:
        """The collaborators of the transport."""
        return BrokerContext(
            name=self.app.main or "bridge",
            database=self.redis_address.database,
            client=self.redis_client,
            store=lambda: self.store,
            route=self.routing.task_of,
            rules=lambda: self.dialect.rules,
            fetcher=lambda: self.fetcher,
            ruby_client=self.ruby_client.push,
            admit=self.limiter.admit,
            has_limits=bool(self.settings.limits),
            weights=self.settings.queues.weight_by_name,
            poll_seconds=self.settings.poll_interval_seconds,
            show_args=self.settings.show_args,
            pushes=self.pushes,
            allow_purge=self._allow_purge,
            refusal=self._refusal,
            version=__version__,
            note_queued=self._note_queued,
        )

    def _note_queued(self, jobs: Sequence[tuple[str, str, float | None]]) -> None:
        self.results.store.queued(jobs)
