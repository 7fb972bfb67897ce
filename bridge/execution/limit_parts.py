"""The parts of the runtime that keep limits across the fleet."""

from __future__ import annotations

import logging
from abc import abstractmethod
from functools import cached_property, partial
from typing import Any

from bridge.errors import StoreError
from bridge.limits.limiter import Limiter
from bridge.settings import Settings
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.options import LIMIT
from bridge.sidekiq.process.background import Background
from bridge.sidekiq.store.effects import Effect
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)


class LimitParts:
    """Made once, when they are first asked for."""

    settings: Settings
    background: Background
    redis_client: Any

    @property
    @abstractmethod
    def lease(self) -> Lease:
        """This worker's right to hold jobs."""

    @property
    @abstractmethod
    def fetcher(self) -> Fetcher:
        """The holder of this process's jobs."""

    @cached_property
    def limiter(self) -> Limiter:
        """Keeps the limits of the fleet."""
        nudge = partial(self.background.nudge, "limits")
        return Limiter(
            self.redis_client(),
            self.settings.limits,
            lambda: self.lease.identity,
            lambda: self.fetcher,
            nudge,
        )

    def add_limits(self, store: RedisStore) -> None:
        """Have the places of a job freed when it ends. Without declared limits only few jobs have places."""
        if self.settings.limits:
            store.effects.sources.append(self._limit_effects)
        else:
            store.effects.add(self._limit_effects, LIMIT)

    def _limit_effects(
        self, job: SidekiqJob, decision: Decision, identity: str, token: int
    ) -> tuple[Effect, ...]:
        return self.limiter.effects(job, decision, identity, token)

    def release(self) -> None:
        """The worker ends: what it keeps from running goes on without it."""
        if self.background.scheduler is not None:
            self.background.scheduler.release()
        try:
            self.limiter.lines.leave()
        except StoreError as error:
            # The lease must end all the same. Waiting jobs go on when their time in schedule comes.
            logger.warning("could not leave the limits: %s", error)
