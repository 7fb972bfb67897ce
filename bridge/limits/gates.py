"""Gates: which limits one job meets, each for the job's own key."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from bridge.limits import declaration
from bridge.limits.declaration import Limit
from bridge.limits.key_path import ALL, MISSING
from bridge.sidekiq import keys
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.options import LIMIT as OWN

logger = logging.getLogger(__name__)

MOST_QUEUES = 8
"""Queues of one limit to which a settlement moves the next job itself. Jobs of others take the scheduler."""

_NARROWNESS = attrgetter("narrowness")
_PLAIN_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


class Gate(NamedTuple):
    """One limit for one key."""

    limit: Limit
    key: str

    @property
    def line(self) -> str:
        """``<limit>:<key>``, the name of its line of waiting jobs."""
        return f"{self.limit.name}:{self.key}"

    @property
    def keys(self) -> tuple[str, ...]:
        """KEYS of the scripts."""
        return keys.gate(self.line)

    @property
    def args(self) -> tuple[str, ...]:
        """ARGV of the scripts."""
        return (self.line, *self.limit.script_args)


Gates = tuple[Gate, ...]


def job_id(job: SidekiqJob) -> str:
    """The name of a job in a line: its jid, or the SHA-1 of its bytes."""
    jid = job.jid
    if jid is not None and _PLAIN_ID.fullmatch(jid):
        return jid
    return "sha1:" + hashlib.sha1(job.raw, usedforsecurity=False).hexdigest()


class Limits:
    """All limits that this process knows: those it declares, and those that jobs bring along."""

    def __init__(self, declared: Iterable[Limit] = ()) -> None:
        self.declared = tuple(declared)
        self.by_name = {limit.name: limit for limit in self.declared}
        self._of_classes = {limit.job_class for limit in self.declared if limit.job_class is not None}
        self._of_queues = {limit.queue for limit in self.declared if limit.job_class is None}
        self._queues: dict[str, tuple[str, ...]] = {}
        self._said: set[str] = set()

    def concerns(self, job: SidekiqJob, queue: str) -> bool:
        """Whether this job may have a gate. Cheap: asked for each job that is claimed."""
        return OWN in job.fields or queue in self._of_queues or job.native_class in self._of_classes

    @property
    def marks(self) -> list[str]:
        """A claim looks for these in payloads: the text of a class, or else the key of a queue."""
        return [
            f'"{limit.job_class}"' if limit.job_class is not None else keys.queue(limit.queue or "")
            for limit in self.declared
        ]

    def gates(self, job: SidekiqJob, queue: str) -> Gates:
        """The gates that this job must pass, narrow ones last. A job waits at the last one that is full."""
        found = [limit for limit in self.declared if limit.covers(job.native_class, queue)]
        if OWN in job.fields:
            found += self._own(job)
        if len(found) > 1:
            found.sort(key=_NARROWNESS)
        return tuple(Gate(limit, self._key(limit, job)) for limit in found)

    def queues(self, gates: Gates, queue: str) -> tuple[str, ...]:
        """The queues that the next jobs of these gates may wait for, as far as this process has seen."""
        names = {queue: None}
        for gate in gates:
            known = self._queues.get(gate.limit.name, ())
            if queue not in known and len(known) < MOST_QUEUES:
                known = self._queues[gate.limit.name] = (*known, queue)
            names.update(dict.fromkeys(known))
        return tuple(map(keys.queue, names))

    def seen_queues(self, name: str) -> tuple[str, ...]:
        """Keys of the queues in which this process has seen jobs of a limit."""
        return tuple(map(keys.queue, self._queues.get(name, ())))

    def _own(self, job: SidekiqJob) -> list[Limit]:
        value = job.fields[OWN]
        entries = value if isinstance(value, list) else [value]
        name = job.native_class or ""
        found = [self._own_limit(name, entry) for entry in entries if entry is not None]
        return [limit for limit in found if limit is not None and limit.name not in self.by_name]

    def _own_limit(self, job_class: str, entry: Any) -> Limit | None:
        try:
            return _own(job_class, *(entry.get(name) for name in declaration.OWN_FIELDS), *entry)
        except (ValueError, TypeError, AttributeError):
            pass
        try:
            return declaration.own_limit(entry, job_class)
        except ValueError as error:
            self._say(
                f"bridge_limit of {job_class}",
                "%s runs without its own limit: bridge_limit is wrong: %s",
                job_class, error, level=logging.ERROR,
            )  # fmt: skip
            return None

    def _key(self, limit: Limit, job: SidekiqJob) -> str:
        if limit.key is None:
            return ALL
        key = limit.key.key(job)
        if key is None:
            self._say(
                limit.name,
                "limit %s: jid=%s has nothing at %s; such jobs count together, under the key %s",
                limit.name, job.jid, limit.key.text, MISSING,
            )  # fmt: skip
            return MISSING
        return key

    def _say(self, subject: str, text: str, *values: object, level: int = logging.WARNING) -> None:
        """Once for each subject: a class with a million jobs must not fill the log."""
        if subject not in self._said and len(self._said) < 1000:
            self._said.add(subject)
            logger.log(level, text, *values)


@lru_cache(maxsize=1000)
def _own(job_class: str, concurrency: Any, rate: Any, key: Any, *names: str) -> Limit:
    """Parsed once for each class and value. ``names``: the fields that are there, known or not."""
    given = {"concurrency": concurrency, "rate": rate, "key": key}
    return declaration.own_limit({**dict.fromkeys(names), **given}, job_class)
