"""Tells systemd when the worker takes jobs, that it lives, and that it goes: sd_notify(3)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals

from bridge.monitoring.health import verdict
from bridge.monitoring.health.snapshot import Examiner, Snapshot
from bridge.monitoring.health.verdict import LoopWatch
from bridge.periodic import Periodic
from bridge.settings.systemd import ServiceManager

if TYPE_CHECKING:
    from bridge.runtime import Runtime

#: Between two looks; a quicker watchdog shortens it.
ROUND_SECONDS = 1.0
#: A worker that waits for Redis has not failed to start: it asks systemd for this much more time.
START_EXTENSION_SECONDS = 30


class Supervision:
    """Says what changed, and with each round that the worker lives while ``/health/live`` would say so."""

    def __init__(
        self,
        examine: Callable[[], Snapshot],
        slots: Callable[[], str],
        say: Callable[[str], None],
        watchdog_seconds: float | None,
        watch: LoopWatch | None = None,
    ) -> None:
        self._examine = examine
        self._slots = slots
        self._say = say
        self._pause = min(ROUND_SECONDS, (watchdog_seconds or 2 * ROUND_SECONDS) / 2)
        self._watch = watch or LoopWatch()
        self._ready = self._stopping = False
        self._status = ""

    def round(self) -> float:
        """Look once. Returns the seconds until the next look."""
        snapshot = self._examine()
        still_seconds = self._watch.still_seconds(snapshot)
        lines = self._changes(snapshot, still_seconds)
        if not verdict.not_live_reasons(snapshot, still_seconds):
            lines += ["WATCHDOG=1"] if self._ready else [_more_time()]
        if lines:
            self._say("\n".join(lines))
        return self._pause

    def stopping(self) -> None:
        """The worker ends, perhaps before the next round."""
        if not self._stopping:
            self._stopping = True
            self._say("STOPPING=1")

    def _changes(self, snapshot: Snapshot, still_seconds: float) -> list[str]:
        lines = []
        if not self._ready and snapshot.redis_answers and snapshot.has_consumer and snapshot.queues:
            self._ready = True
            lines.append("READY=1")
        if snapshot.stopping and not self._stopping:
            self._stopping = True
            lines.append("STOPPING=1")
        reasons = verdict.not_ready_reasons(snapshot, still_seconds) + verdict.shortfalls(snapshot)
        status = "; ".join(reasons) or self._slots()
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        return lines


class Notifying(bootsteps.StartStopStep):
    """A step of the worker, there only where a service manager asked to be told."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, parent: Any) -> bool:
        """Whether systemd listens."""
        self._manager = ServiceManager.take(os.environ, os.getpid())
        return self._manager is not None

    def start(self, parent: Any) -> None:
        """Report until the process ends."""
        manager = self._manager
        assert manager is not None
        runtime: Runtime = parent.app.bridge
        examiner = Examiner(runtime, solo=parent.pool_cls.__module__.endswith(".solo"))
        fetcher = runtime.fetcher
        supervision = Supervision(
            examiner.examine,
            lambda: f"{len(fetcher.in_flight.held)} of {fetcher.in_flight.size} slots busy",
            manager.tell,
            manager.watchdog_seconds,
        )
        Periodic("supervision", supervision.round).start()
        signals.worker_shutdown.connect(lambda **_: supervision.stopping(), sender=parent, weak=False)

    def stop(self, parent: Any) -> None:
        """Not yet: running jobs go on, and the watchdog with them."""

    terminate = stop


def _more_time() -> str:
    return f"EXTEND_TIMEOUT_USEC={START_EXTENSION_SECONDS * 1_000_000}"
