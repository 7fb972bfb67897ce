"""The parts of a worker that are about moves of classes, as the composition root makes them."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property, partial
from typing import Any

from bridge.execution import shadow
from bridge.moves.dry_runs import DryRuns
from bridge.moves.follower import MoveFollower
from bridge.moves.runs import Runs
from bridge.moves.shadow import Reported, Shadows
from bridge.moves.side import SideMark
from bridge.moves.store import Moves, MoveStore
from bridge.settings import Settings
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.listeners import JobListeners
from bridge.sidekiq.payload.tracked import Tracked
from bridge.sidekiq.process.metrics import JobMetrics
from bridge.sidekiq.store.store import RedisStore


class MoveParts:
    """Made of the other parts, and each once."""

    app: Any
    settings: Settings
    routing: Any
    listeners: JobListeners
    metrics: JobMetrics
    tracked: Tracked

    @property
    @abstractmethod
    def store(self) -> RedisStore:
        """The job store."""

    @property
    @abstractmethod
    def fetcher(self) -> Fetcher:
        """The holder of this process's jobs."""

    @cached_property
    def moves(self) -> MoveFollower:
        """Which classes move from Ruby to Python, and how far."""
        return MoveFollower(MoveStore(self.store.client), self.move_runs, self.shadows, self._heed)

    @cached_property
    def move_runs(self) -> Runs:
        """Counts the runs of classes that move."""
        return Runs()

    @cached_property
    def shadows(self) -> Shadows:
        """Repeats Ruby runs in Python, as dry runs of another process."""
        return Shadows(
            lambda: self.store.client,
            partial(shadow.is_accepted, self.app),
            DryRuns(partial(shadow.origin, self.app)),
            show_args=self.settings.show_args,
        )

    @cached_property
    def _side_mark(self) -> SideMark:
        # A worker without moves asks nothing of a job: its listeners begin with the first move.
        mark = SideMark()
        self.listeners.decided.append(mark.decided)
        self.listeners.settled.extend((self.move_runs.settled, self.shadows.settled))
        return mark

    def _heed(self, moves: Moves, finished: Moves) -> None:
        """Route and count by these moves from now on."""
        self.routing.follow(moves, finished)
        for each in (self.move_runs, self._side_mark, self.shadows):
            each.follow(moves)
        self.metrics.moving = moves.keys()
        has_shadows = bool(self.shadows.classes)
        self.fetcher.in_flight.tracked = Reported(self.tracked, self.shadows) if has_shadows else self.tracked
        self.fetcher.wake()
