"""The probes' answers, and the page about every part of the worker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import bridge
from bridge.monitoring import native_names
from bridge.monitoring.health import verdict
from bridge.monitoring.health.snapshot import Examiner, Snapshot
from bridge.monitoring.health.verdict import LoopWatch
from bridge.settings.redis_url import mask

if TYPE_CHECKING:
    from bridge.runtime import Runtime


class Report:
    """Answers the three pages under ``/health``: each gives whether all is well, and a body."""

    def __init__(self, runtime: Runtime, examiner: Examiner, watch: LoopWatch) -> None:
        self._runtime = runtime
        self._examiner = examiner
        self._watch = watch

    def live(self) -> tuple[bool, dict[str, Any]]:
        """Whether the process is worth keeping."""
        snapshot = self._examiner.examine()
        return _answer("live", verdict.not_live_reasons(snapshot, self._watch.still_seconds(snapshot)))

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether it takes jobs."""
        snapshot = self._examiner.examine()
        return _answer("ready", verdict.not_ready_reasons(snapshot, self._watch.still_seconds(snapshot)))

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Every part; always well, because the page itself is what was asked for."""
        snapshot = self._examiner.examine()
        still = self._watch.still_seconds(snapshot)
        reasons, shortfalls = verdict.not_ready_reasons(snapshot, still), verdict.shortfalls(snapshot)
        return True, {
            "status": "not ready" if reasons else "degraded" if shortfalls else "ready",
            "live": not verdict.not_live_reasons(snapshot, still),
            "ready": not reasons,
            "reasons": [*reasons, *shortfalls],
            **self._process(),
            "redis": self._redis(snapshot),
            "fetch_loop": _fetch_loop(snapshot, still),
            "lease": self._lease(),
            "heartbeat": {"age_seconds": self._heartbeat_age()},
            "sidecar": _sidecar(snapshot),
            "slots": self._slots(),
            "tasks": {
                "native": native_names.native(self._runtime.app),
                "in_ruby_middleware": native_names.in_ruby_middleware(self._runtime.app),
            },
            "quiet": snapshot.quiet,
            "stopping": snapshot.stopping,
        }

    def _process(self) -> dict[str, Any]:
        return {
            "version": bridge.__version__,
            "identity": self._runtime.lease.identity,
            "pid": os.getpid(),
            "uptime_seconds": round(self._runtime.age_seconds, 1),
        }

    def _redis(self, snapshot: Snapshot) -> dict[str, Any]:
        heartbeat = self._runtime.background.heartbeat
        return {
            "answers": snapshot.redis_answers,
            "silent_seconds": _rounded(snapshot.redis_silent_seconds),
            "round_trip_us": heartbeat.rtt_us if heartbeat else None,
            "unwritten_settlements": len(self._runtime.fetcher.journal),
        }

    def _lease(self) -> dict[str, Any]:
        lease = self._runtime.lease
        held = "recovery" in self._runtime.background.threads and lease.age_seconds < lease.length_seconds
        return {
            "held": held,
            "age_seconds": _rounded(lease.age_seconds) if held else None,
            "length_seconds": lease.length_seconds,
        }

    def _heartbeat_age(self) -> float | None:
        heartbeat = self._runtime.background.heartbeat
        return _rounded(heartbeat.age_seconds) if heartbeat and heartbeat.beat_at else None

    def _slots(self) -> dict[str, int]:
        fetcher = self._runtime.fetcher
        return {
            "total": fetcher.in_flight.size,
            "busy": len(fetcher.in_flight.held),
            "free": fetcher.in_flight.free_slots,
            "lost": self._runtime.cancellation.lost,
        }


def _answer(name: str, reasons: list[str]) -> tuple[bool, dict[str, Any]]:
    return not reasons, {"status": f"not {name}" if reasons else name, "reasons": reasons}


def _fetch_loop(snapshot: Snapshot, still_seconds: float) -> dict[str, Any]:
    return {
        "turns": snapshot.turns,
        "still_seconds": _rounded(still_seconds),
        "consuming": snapshot.has_consumer and bool(snapshot.queues),
        "queues": list(snapshot.queues),
    }


def _sidecar(snapshot: Snapshot) -> dict[str, Any]:
    closed = snapshot.breaker.value == "closed"
    return {
        "breaker": snapshot.breaker.value,
        "reason": None if closed else mask(snapshot.breaker_reason),
        "rejected": snapshot.rejected is not None,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
