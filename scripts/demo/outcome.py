"""Compares how the demo's jobs ended with how they should have.

Rails wrote down what it expects (`Expectation`); where a job is now, Redis knows; whether it
ran, the ledger knows.
"""

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

from scripts.demo.place import Place

DONE, DEAD, DROPPED, SCHEDULED = "done", "dead", "dropped", "scheduled"
LAST_EVENT = """
SELECT e.job_key, e.job_class, e.outcome,
       (SELECT l.event FROM ledger l
         WHERE l.job_key = e.job_key AND l.event IN ('started', 'finished', 'raised')
         ORDER BY l.id DESC LIMIT 1)
  FROM expectations e WHERE e.id > ?
"""


@dataclass(frozen=True)
class Job:
    """One expected job and what became of it."""

    job_class: str
    expected: str
    actual: str

    @property
    def as_expected(self) -> bool:
        return self.actual == self.expected


@dataclass(frozen=True)
class Counts:
    """The figures of the Web UI's bar."""

    processed: int
    failed: int
    enqueued: int
    retries: int
    scheduled: int
    dead: int

    def __str__(self) -> str:
        return (
            f"processed {self.processed}  failed {self.failed}  enqueued {self.enqueued}  "
            f"retries {self.retries}  scheduled {self.scheduled}  dead {self.dead}"
        )


class Outcome:
    """Looks at the jobs that were enqueued since it was made."""

    def __init__(self, place: Place) -> None:
        self._database = place.database
        # redis-py's types say "bytes or str" for every reply, whatever decode_responses says.
        self._redis: Any = redis.Redis.from_url(place.redis_url, decode_responses=True)
        self._before = self._last_expectation()

    def counts(self) -> Counts:
        return Counts(
            processed=int(self._redis.get("stat:processed") or 0),
            failed=int(self._redis.get("stat:failed") or 0),
            enqueued=sum(self._redis.llen(f"queue:{name}") for name in self._redis.smembers("queues")),
            retries=self._redis.zcard("retry"),
            scheduled=self._redis.zcard("schedule"),
            dead=self._redis.zcard("dead"),
        )

    def jobs(self) -> list[Job]:
        # The ledger first: a job that moves on between the two looks is seen as unfinished, never as ended.
        rows = self._query(LAST_EVENT, self._before)
        places = self._places()
        return [Job(name, expected, _actual(places.get(key), event)) for key, name, expected, event in rows]

    def in_flight(self) -> int:
        """Jobs in the hands of bridge workers: neither waiting nor settled."""
        return sum(self._redis.hlen(key) for key in self._redis.scan_iter("bridge:inflight:*"))

    def _places(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in self._redis.smembers("queues"):
            found |= dict.fromkeys(map(_job_key, self._redis.lrange(f"queue:{name}", 0, -1)), "enqueued")
        for name, place in (("retry", "retrying"), ("schedule", SCHEDULED), ("dead", DEAD)):
            found |= dict.fromkeys(map(_job_key, self._redis.zrange(name, 0, -1)), place)
        return found

    def _last_expectation(self) -> int:
        ((last,),) = self._query("SELECT COALESCE(MAX(id), 0) FROM expectations")
        return int(last)

    def _query(self, statement: str, *values: int) -> list[tuple[str, ...]]:
        connection = sqlite3.connect(self._database, timeout=10)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


def table(jobs: list[Job]) -> str:
    """One line per class: how many ended how, and whether that was expected."""
    rows = Counter((job.job_class, job.expected, job.actual) for job in jobs)
    lines = []
    for (name, expected, actual), number in sorted(rows.items()):
        verdict = "as expected" if actual == expected else f"EXPECTED: {expected}"
        lines.append(f"  {number:>4} x {name:<32} {actual:<10} {verdict}")
    return "\n".join(lines)


def _actual(place: str | None, last_event: str | None) -> str:
    if place:
        return place
    endings = {"finished": DONE, "raised": DROPPED, "started": "running", None: "not started"}
    return endings[last_event]


def _job_key(payload: str) -> str:
    """ActiveJob's id, which survives its retries, else the jid; as LedgerEntry in the Rails app."""
    job = json.loads(payload)
    first = job["args"][0] if "wrapped" in job and job["args"] else None
    return str(first["job_id"] if isinstance(first, dict) else job["jid"])
