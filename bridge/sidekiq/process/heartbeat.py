"""The heartbeat: keeps this process and its running jobs on Sidekiq's Busy page, and takes its signals.

Follows ``launcher.rb``. Two rhythms: every half second the rows of jobs that have run for half a second or
more are brought up to date (one write for all of them, none when nothing changed), every five seconds the
process itself is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import ROW_SECONDS, UnitOfWork
from bridge.sidekiq.outcome.dialect import MetricsFamily
from bridge.sidekiq.process import rows as process
from bridge.sidekiq.process.metrics import JobMetrics
from bridge.sidekiq.process.rows import ProcessInfo

logger = logging.getLogger(__name__)

TICK_SECONDS = ROW_SECONDS
BEAT_SECONDS = 5.0
TTL_SECONDS = 60
#: The tag of a row whose job runs in Python. The job's own payload does not get it.
PYTHON = "python"


@dataclass
class Heartbeat:
    """Writes what the Busy and Metrics pages show of this process. ``on_signal`` gets TSTP, TERM or TTIN."""

    client: redis.Redis
    fetcher: Fetcher
    info: Callable[[], ProcessInfo]
    metrics: JobMetrics
    metrics_family: Callable[[], MetricsFamily]
    on_signal: Callable[[str], None]
    now: Callable[[], float] = time.time
    """The wall clock, for what people read."""
    clock: Callable[[], float] = time.monotonic
    """When each duty is due, by a steady clock: a wall clock set back would silence this process."""

    see_notices: Callable[[int], None] | None = None
    """Told at each beat how many notices for Ruby wait; None where no sidecar is configured."""

    rows: set[int] = field(default_factory=set)
    beat_at: float = 0.0
    """Epoch seconds of the last beat that Redis took."""
    rtt_us: int = 0
    _busy: int = -1
    """What Redis has as the number of running jobs."""
    _identity: str = ""
    _due_at: float = 0.0
    _queues: tuple[str, ...] = ()
    _rows_are_sure: bool = False
    """Whether Redis shows the rows that this process has written: not after an outage, nor after a loss."""

    def __post_init__(self) -> None:
        self._beat = self.clock()

    @property
    def age_seconds(self) -> float:
        """Since the last beat that Redis took; since the start where there was none."""
        return self.clock() - self._beat

    def round(self) -> float:
        """One tick. Returns seconds to the next."""
        if not self.fetcher.has_consumer:
            self.fetcher.flush()
        self._update_rows()
        if self.clock() >= self._due_at or self.fetcher.order.names != self._queues:
            self.beat()
        return TICK_SECONDS

    def beat(self) -> None:
        """Register, report, flush the metrics, and obey at most one signal, as Sidekiq does."""
        self._queues, now = self.fetcher.order.names, self.now()
        info = self.info()
        self._leave_old_identity(info.identity)
        self.metrics.flush(self.client, now, self.metrics_family())
        signal = self._write_beat(info, now)
        self.beat_at, self._beat = now, self.clock()
        self._due_at = self._beat + BEAT_SECONDS
        if signal is not None:
            self.on_signal(signal)

    def hurry(self) -> None:
        """Beat at the next tick: something that the Busy page shows has changed."""
        self._due_at = 0.0

    def clear(self) -> None:
        """Leave the Busy page, at a clean stop."""
        identity = self._identity
        if not identity:
            return
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.srem(keys.PROCESSES, identity)
            pipeline.unlink(identity, keys.work(identity), keys.workers(identity), keys.signals(identity))
            pipeline.execute()

    def _write_beat(self, info: ProcessInfo, now: float) -> str | None:
        identity = info.identity
        busy = len(self.fetcher.in_flight.running)
        fields: dict[Any, Any] = {"info": info.info_json()}
        fields |= process.beat_fields(
            busy=busy,
            quiet=self.fetcher.in_flight.is_quiet,
            rss_kb=process.rss_kb(),
            rtt_us=self.rtt_us,
            now=now,
            concurrency=info.concurrency,
        )
        started = time.perf_counter()
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.rpop(keys.signals(identity))
            pipeline.sadd(keys.PROCESSES, identity)
            pipeline.hset(identity, mapping=fields)
            pipeline.expire(identity, TTL_SECONDS)
            if self.rows:
                pipeline.expire(keys.work(identity), TTL_SECONDS)
                pipeline.expire(keys.workers(identity), TTL_SECONDS)
                pipeline.hlen(keys.work(identity))
            if self.see_notices is not None:
                pipeline.llen(keys.NOTICES)
            found = pipeline.execute()
        signal, shown = found[0], found[6:7]
        if self.rows and shown != [len(self.rows)]:
            self._rows_are_sure = False
        self._busy = busy
        self.rtt_us = int((time.perf_counter() - started) * 1_000_000)
        if self.see_notices is not None:
            self.see_notices(found[-1])
        return signal.decode(errors="replace") if signal else None

    def _update_rows(self) -> None:
        running = self.fetcher.in_flight.running
        shown = {unit.delivery.token: unit for unit in running if unit.seconds >= TICK_SECONDS}
        if not self._rows_are_sure and (shown or self.rows):
            self._write_rows(list(shown.values()), None, len(running))
        elif shown.keys() != self.rows or len(running) != self._busy:
            new = [shown[token] for token in shown.keys() - self.rows]
            self._write_rows(new, self.rows - shown.keys(), len(running))
        # Only now: a settlement between reading and writing leaves a stale row, which the next tick must
        # still see.
        self.rows = set(shown)

    def _write_rows(self, new: list[UnitOfWork], stale: set[int] | None, busy: int) -> None:
        """Add rows and remove stale ones; None: all that is there, because it is not known.

        The number of running jobs goes with them: the Busy page shows both side by side.
        """
        identity = self.fetcher.lease.identity
        self._rows_are_sure = False
        with outages():
            pipeline = self.client.pipeline(transaction=stale is None)
            for key in (keys.work(identity), keys.workers(identity)):
                if stale is None:
                    pipeline.unlink(key)
                elif stale:
                    pipeline.hdel(key, *map(str, stale))
                if new:
                    pipeline.hset(key, mapping={str(unit.delivery.token): self._row(unit) for unit in new})
                    pipeline.expire(key, TTL_SECONDS)
            if identity == self._identity:  # registered, so that no key without a process is made
                pipeline.hset(identity, "busy", busy)
                pipeline.expire(identity, TTL_SECONDS)
            pipeline.execute()
        self._rows_are_sure, self._busy = True, busy

    def _leave_old_identity(self, identity: str) -> None:
        if self._identity and self._identity != identity:
            self.clear()
            self._rows_are_sure = False
        self._identity = identity

    def _row(self, unit: UnitOfWork) -> str:
        payload = unit.delivery.payload
        shown = process.tagged(unit.job, PYTHON) if unit.native else payload
        return process.work_row(unit.delivery.queue, shown, unit.started_at or 0.0)
