"""Everything at once: Redis, sidecar, worker, the gem to ask, and the ledger of what the jobs did."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import redis

from tests.support import census
from tests.support.ledger import Ledger
from tests.support.redis_server import RedisServer
from tests.support.ruby_helper import RubyHelper
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import JOBS, SidecarProcess
from tests.support.waiting import NeverHappened, wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

#: Queues that the shared worker consumes, in strict order.
QUEUES = "high,default,low,mailers"


class Stage:
    """One bridge on one Redis. ``with`` empties its database, and ends it.

    ``reset`` makes it as good as new without starting anything again.
    """

    def __init__(self, server: RedisServer, root: RubyRoot, database: int = 0, jobs: Any = JOBS) -> None:
        self.server, self.root, self.database, self.jobs = server, root, database, jobs
        self.place = root.make_directory()
        self.directory = self.place.path
        self.ledger = Ledger(self.directory / "ledger")
        self.redis: redis.Redis = server.client(database)
        self.redis_url = server.url_of(database)
        self.ruby = RubyHelper(root, self.place, self.redis_url)
        self.sidecar: SidecarProcess | None = None
        self.worker: WorkerProcess | None = None

    # -- processes

    def start_sidecar(self, **options: Any) -> SidecarProcess:
        self.sidecar = SidecarProcess(
            self.root, self.place, self.redis_url, **{"require": self.jobs, **options}
        )
        return self.sidecar

    def start_worker(
        self, *arguments: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> WorkerProcess:
        self.worker = self.make_worker(*arguments, env=env, **options)
        return self.worker

    def make_worker(
        self, *arguments: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> WorkerProcess:
        """A worker that ``reset`` and ``stop`` do not know: whoever makes it ends it."""
        url = self.sidecar.url if self.sidecar else f"unix://{self.directory / 's.sock'}"
        settings = {
            "BRIDGE_QUEUES": QUEUES,
            "TEST_LEDGER_HOST": str(self.ledger.path),
            **(env or {}),
        }
        return WorkerProcess(self.directory, self.redis_url, url, *arguments, env=settings, **options)

    def __enter__(self) -> Self:
        """Begin with an empty database."""
        self.redis.flushdb()
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.open_gate("all")
        self.stop()

    def stop(self) -> None:
        """End everything, whatever state it is in."""
        for part in (self.worker, self.sidecar, self.ruby):
            if part is not None:
                part.stop()
        self.redis.close()
        self.place.remove()

    # -- a clean start for each test

    def reset(self) -> None:
        """No jobs, no counters, an empty ledger; the worker keeps its registration and its lease."""
        self.ledger.open_gate("all")  # a test that failed may have left jobs waiting
        self.redis.delete("queues", "schedule", "retry", "dead")
        for key in self.redis.scan_iter("queue:*", count=1000):
            self.redis.delete(key)
        self.wait_idle()
        own = {b"processes", b"bridge:lease", b"bridge:tracked", *self.redis.smembers("processes")}
        # Whatever ended meanwhile may have left a retry behind.
        # The watches of an idle worker go on: Redis must not forget the names of their lists.
        gone = [
            key
            for key in self.redis.scan_iter(count=1000)
            if key not in own and not key.startswith(b"bridge:arrived:")
        ]
        if gone:
            self.redis.delete(*gone)
        self.ledger.clear()

    def wait_idle(self, seconds: float = 15.0) -> None:
        """Wait until no worker holds a job."""
        wait_for(lambda: not census.inflight(self.redis), "the worker to be idle", seconds)

    def wait_done(self, seconds: float = 20.0) -> None:
        """Wait until every queue is empty and no worker holds a job."""
        wait_for(lambda: not self.queued, f"the queues to be empty, not {self.queued}", seconds)
        self.wait_idle(seconds)

    # -- reading

    @property
    def queued(self) -> dict[str, int]:
        """Number of jobs in each queue that has some."""
        return {key.decode(): self.redis.llen(key) for key in self.redis.scan_iter("queue:*", count=1000)}

    def counters(self) -> tuple[int, int]:
        """stat:processed and stat:failed."""
        processed, failed = self.redis.mget("stat:processed", "stat:failed")
        return int(processed or 0), int(failed or 0)

    def wait_counters(self, processed: int, failed: int) -> None:
        wait_until_equal(self.counters, (processed, failed), "processed and failed")

    def only(self, name: str) -> dict[str, Any]:
        """The one entry of ``retry``, ``dead`` or ``schedule``, waited for."""
        try:
            wait_until_equal(lambda: self.redis.zcard(name), 1, f"one entry in {name}")
        except NeverHappened as error:
            sets = {each: self.redis.zrange(each, 0, 5) for each in ("retry", "dead", "schedule")}
            raise NeverHappened(f"{error}; {sets}, queues: {self.queued}") from None
        payload: dict[str, Any] = json.loads(self.redis.zrange(name, 0, -1)[0])
        return payload

    def score(self, name: str) -> float:
        """Score of the one entry of a set."""
        return float(self.redis.zrange(name, 0, -1, withscores=True)[0][1])

    # -- acting

    def push_raw(self, payload: bytes | str, queue: str = "default") -> None:
        """LPUSH these bytes, as Sidekiq's client does with its own."""
        self.redis.sadd("queues", queue)
        self.redis.lpush(f"queue:{queue}", payload)

    def push_job(self, fields: Mapping[str, Any], queue: str = "default") -> str:
        """LPUSH a payload with just these fields (and a jid); gives the jid."""
        payload = {"jid": new_jid(), **fields}
        self.push_raw(json.dumps(payload, ensure_ascii=False, separators=(",", ":")), queue)
        return str(payload["jid"])

    def make_due(self, name: str) -> None:
        """Let every entry of ``retry`` or ``schedule`` be due now."""
        for member in self.redis.zrange(name, 0, -1):
            self.redis.zadd(name, {member: 1.0}, xx=True)

    def settled(self, check: Callable[[], Any], what: str) -> Any:
        """Wait for ``check`` and for the worker to let go of everything."""
        value = wait_for(check, what)
        self.wait_idle()
        return value


_jids = iter(range(1, 1 << 60))


def new_jid() -> str:
    """24 hex digits, never twice in one run of the suite."""

    return f"{os.urandom(6).hex()}{next(_jids):012x}"
