"""The results of one process: what asks for them, and what jobs tell of themselves."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from bridge.results.lookup import Lookup
from bridge.results.record import Record
from bridge.results.status_gem import Mirror
from bridge.results.store import ResultStore, Run, Value
from bridge.results.waiting import Changed, Waiter
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.tracked import Tracked
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)


class Results:
    """Made from what the process knows; connections are made at first use."""

    def __init__(self, tracked: Tracked, store: Callable[[], RedisStore], ttl_seconds: int) -> None:
        self.tracked = tracked
        self._jobs = store
        self._ttl = ttl_seconds
        self._warned: set[str] = set()

    @cached_property
    def store(self) -> ResultStore:
        """The hashes."""
        made = ResultStore(self._jobs().client, self._ttl)
        made.mirror = Mirror(made)
        return made

    @cached_property
    def waiter(self) -> Waiter:
        """Waits for ends."""
        return Waiter(self.store, self.lookup)

    @cached_property
    def lookup(self) -> Lookup:
        """Looks for jobs without a hash."""
        return Lookup(self._jobs(), self.store, self.tracked)

    def wait(self, jid: str, timeout: float | None, changed: Changed = lambda record: None) -> Record | None:
        """As :meth:`Waiter.wait`."""
        return self.waiter.wait(jid, timeout, changed)

    def read(self, jid: str) -> Record | None:
        """The record; None for a tracked job that has not begun. Raises NotTracked and ResultUnknown."""
        return self.lookup.record(jid)

    def told(self, job: SidekiqJob, delivery: Delivery, fields: Mapping[str, Value]) -> bool:
        """A running job tells of itself. False where it is not tracked, or is another worker's by now."""
        if job not in self.tracked:
            self._warn(job.native_class or "the task")
            return False
        known = {"class": job.native_class or "", "language": "python"}
        run = Run(str(job.jid), delivery.identity, delivery.token, known)
        return self.store.progress(run, fields)

    def _warn(self, name: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            logger.warning(
                "%s tells of its progress and is not tracked: nothing is stored. Write @app.task(track=True)",
                name,
            )


def progress_fields(at: float | None, total: float | None, message: str | None) -> dict[str, Value]:
    """The fields of a progress; None leaves a field as it is. Raises TypeError with what to write."""
    fields: dict[str, Value] = {}
    for name, value in (("at", at), ("total", total)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise TypeError(f"progress: {name}={value!r}: write a number")
        fields[name] = value
    if message is not None:
        fields["message"] = str(message)[:1000].encode("utf-8", "replace")
    return fields


def state_fields(state: str | None, meta: Any) -> dict[str, Value]:
    """The fields of a state of the task's own. Raises TypeError or ValueError for a bad ``meta``."""
    text = json.dumps(meta, allow_nan=False).encode()
    if len(text) > 65_536:
        raise ValueError(f"update_state: meta has {len(text):,} bytes of JSON, and at most 65,536 are kept")
    fields: dict[str, Value] = {"state": str(state or ""), "meta": text if meta is not None else b""}
    if isinstance(meta, dict):
        for name, value in (("at", meta.get("at", meta.get("current"))), ("total", meta.get("total"))):
            if isinstance(value, int | float) and not isinstance(value, bool):
                fields[name] = value
    return fields
