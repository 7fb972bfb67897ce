"""Grows and shrinks the pool (``--autoscale``). A job leaves its queue only for a slot that is there.

Celery's own claims as many jobs as the largest pool could run, and grows when it holds more than the pool
runs. Those jobs would wait in this worker while another one is idle. Here the slots follow the pool's size,
and a pool whose slots are all busy grows.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from celery.worker import autoscale


class Autoscaler(autoscale.Autoscaler):
    """The autoscaler of a bridge worker (setting ``worker_autoscaler``)."""

    #: Celery would have each message reported, and so take every job off the fast path.
    on_task_received = None

    pool: Any
    worker: Any
    max_concurrency: int
    min_concurrency: int
    _last_task_received: float | None

    def __init__(
        self, pool: Any, max_concurrency: int, min_concurrency: int = 0, worker: Any = None, **options: Any
    ) -> None:
        super().__init__(pool, max_concurrency, max(1, min_concurrency), worker=worker, **options)
        self._fetcher = worker.app.bridge.fetcher
        self._fetcher.in_flight.follow_pool(self.min_concurrency)

    def maybe_scale(self, req: Any = None) -> None:
        """Look once; the thread calls this every second."""
        super().maybe_scale(req)
        self._follow()

    def update(self, max: int | None = None, min: int | None = None) -> Any:
        """Change the bounds (``celery control autoscale``)."""
        found = super().update(max, min)
        self._follow()
        return found

    @property
    def qty(self) -> int:
        """How many slots are wanted: twice as many when all are busy, else those that are."""
        in_flight, size = self._fetcher.in_flight, int(self.pool.num_processes)
        held: int = len(in_flight.held) - in_flight.aside.beside_slots
        if held < size:
            return held
        self._last_task_received = monotonic()
        return max(2 * size, 1)

    def _follow(self) -> None:
        self._fetcher.in_flight.follow_pool(int(self.pool.num_processes))
        self._fetcher.wake()
