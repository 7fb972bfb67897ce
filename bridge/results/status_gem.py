"""The hash of the gem sidekiq-status, for jobs that Python runs or pushes beside an app with that gem.

The gem's middleware writes it for Ruby runs. Follows ``storage.rb`` and ``worker.rb`` of the gem: the fields
``status``, ``update_time``, ``at``, ``total``, ``pct_complete`` and ``message``, and 30 minutes of life.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge.redis import scripts
from bridge.redis.outages import raise_first_error
from bridge.results.record import QUEUED, RUNNING
from bridge.results.store import ResultStore, Run, Value, paired
from bridge.sidekiq import keys
from bridge.sidekiq.outcome import notice
from bridge.sidekiq.outcome.decision import Bury, Decision, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.tracked import Tracked
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.effects import Effect, SettlementEffects

GEM = "sidekiq-status"
#: Member of ``bridge:tracked`` while a worker knows of a sidecar with the gem.
ANNOUNCED = "gem:sidekiq-status"
_ASK_SECONDS = 60.0
_WORDS = {QUEUED: "queued", RUNNING: "working"}
_ENDS: dict[type, str] = {Done: "complete", Retry: "retrying", Bury: "failed", Interrupt: "interrupted"}


def key(jid: str) -> str:
    """The gem's key."""
    return f"sidekiq:status:{jid}"


class StatusGem:
    """A worker's part: the ends of native jobs. Costs nothing until a sidecar reports the gem."""

    def __init__(
        self,
        effects: Callable[[], SettlementEffects],
        tracked: Tracked,
        runs_in_python: Callable[[SidekiqJob], bool],
        announce: Callable[[], object],
    ) -> None:
        self._effects = effects
        self._tracked = tracked
        self._runs_in_python = runs_in_python
        self._announce = announce
        self._is_known = False

    def learn(self, health: Any) -> None:
        """A sidecar has reported the gems of its app."""
        if self._is_known or GEM not in health.gems:
            return
        self._is_known = True
        self._effects().sources.append(self.effects)
        self._announce()

    @property
    def is_known(self) -> bool:
        """Whether a sidecar has reported the gem."""
        return self._is_known

    def effects(self, job: SidekiqJob, decision: Decision, identity: str, token: int) -> tuple[Effect, ...]:
        """The source of effects."""
        if job.jid is None or not self._runs_in_python(job):
            return ()
        only_known = "" if job in self._tracked else "1"
        return (Effect("status_gem", (key(job.jid),), (time.time(), _word(decision), only_known)),)


def _word(decision: Decision) -> str:
    match decision:
        case Done(expired=True):
            return "failed"
        case GiveBack(unknown_outcome=unknown):
            return "orphan" if unknown else "queued"
        case Discard(notice=told, error=error):
            return "stopped" if error is None and told in (None, notice.REVOKED) else "failed"
    return _ENDS[type(decision)]


class Mirror:
    """Writes what tracked jobs tell of themselves into the gem's hash too, where an app has the gem."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._asked_at = -_ASK_SECONDS
        self._is_wanted = False

    def __call__(self, jid: str, status: str, fields: Mapping[str, Value], run: Run | None) -> None:
        """A tracked job waits, runs, or has come so far. ``run`` fences it: its end may have come by now."""
        now = time.monotonic()
        if now - self._asked_at >= _ASK_SECONDS:
            self._asked_at = now
            self._is_wanted = self._store.is_member(ANNOUNCED)
        if self._is_wanted:
            told = {"status": _WORDS[status], "update_time": int(time.time()), **_progress(fields)}
            names = (key(jid),) if run is None else (key(jid), keys.inflight(run.identity))
            args = ("" if run is None else run.token, *paired(told))
            raise_first_error(
                scripts.run(self._store.client, [scripts.Call(lua.load("status_gem_mark"), names, args)])
            )


def _progress(fields: Mapping[str, Value]) -> dict[str, Value]:
    found = {name: fields[name] for name in ("at", "total", "message") if fields.get(name) not in (None, "")}
    at, total = found.get("at"), found.get("total")
    if isinstance(at, int | float) and isinstance(total, int | float) and total > 0:
        found["pct_complete"] = int(100 * at / total)
    return found
