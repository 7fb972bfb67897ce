"""Several workers under the same limits, and what the ledger of their jobs says."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from tests.support.ledger import Ledger
from tests.support.redis_server import RedisServer
from tests.support.stage import new_jid
from tests.support.waiting import wait_for
from tests.support.worker_process import WorkerProcess


class LimitFleet:
    """Native workers on one Redis. ``stop`` ends all of them."""

    def __init__(self, directory: Path, server: RedisServer, database: int = 9) -> None:
        self.directory = directory
        self.redis: redis.Redis = server.client(database)
        self.url = server.url_of(database)
        self.redis.flushdb()
        self.ledger = Ledger(directory / "ledger")
        self.workers: list[WorkerProcess] = []
        self.killed_at: dict[int, float] = {}
        self._names = iter(range(1, 1000))

    def start(
        self, limits: Sequence[dict[str, Any]], *flags: str, concurrency: int = 5, **env: str
    ) -> WorkerProcess:
        """One more worker, with these limits."""
        name = f"limited{next(self._names)}"
        settings = {
            "BRIDGE_LIMITS": json.dumps(list(limits)),
            "BRIDGE_LEASE_SECONDS": "3",
            "BRIDGE_SIDECAR_URL": f"unix://{self.directory}/none.sock",
            "TEST_LEDGER_HOST": str(self.ledger.path),
            **env,
        }
        made = WorkerProcess(
            self.directory, self.url, None, *flags, name=name, concurrency=concurrency, env=settings
        )
        self.workers.append(made)
        return made

    def push(
        self, job_class: str, count: int, *args: Any, queue: str = "default", **fields: Any
    ) -> list[str]:
        """Push jobs as Sidekiq's client does. A callable argument gets the number of the job."""
        jids = [new_jid() for _ in range(count)]
        payloads = []
        for number, jid in enumerate(jids):
            own = [arg(number) if callable(arg) else arg for arg in args]
            payloads.append(
                json.dumps({"class": job_class, "jid": jid, "args": own, "queue": queue, **fields})
            )
        self.redis.sadd("queues", queue)
        for begin in range(0, count, 1000):
            self.redis.lpush(f"queue:{queue}", *payloads[begin : begin + 1000])
        return jids

    def kill(self, worker: WorkerProcess) -> None:
        """kill -9."""
        self.workers.remove(worker)
        self.killed_at[worker.pid] = time.time()
        worker.process.kill()

    def stop(self) -> None:
        self.ledger.open_gate("all")
        for worker in self.workers:
            worker.process.kill()
        self.redis.close()

    # -- what the jobs say

    def done(self, jids: Sequence[str]) -> int:
        wanted = set(jids)
        return len({line["jid"] for line in self.ledger.lines if line["event"] == "done"} & wanted)

    def wait_done(self, jids: Sequence[str], seconds: float = 60.0) -> None:
        wait_for(lambda: self.done(jids) == len(jids), f"all of {len(jids)} jobs to be done", seconds)

    def most_at_once(self, key: Any = lambda line: None) -> int:
        """The most jobs that ran at once for one key; what a killed worker ran ended with it."""
        events = [
            (line["at"], line["event"], line["jid"], line["pid"], key(line)) for line in self.ledger.lines
        ]
        events += [(at, "killed", "", pid, None) for pid, at in self.killed_at.items()]
        running: dict[tuple[str, int], Any] = {}
        most = 0
        for _, event, jid, pid, own in sorted(events, key=lambda found: (found[0], found[1] == "started")):
            if event == "killed":
                running = {name: its for name, its in running.items() if name[1] != pid}
            elif event == "started":
                running[jid, pid] = own
                most = max(most, sum(its == own for its in running.values()))
            else:
                running.pop((jid, pid), None)
        return most

    def starts(self, jids: Sequence[str] | None = None) -> list[float]:
        """When jobs began, sorted."""
        return sorted(
            line["at"]
            for line in self.ledger.lines
            if line["event"] in ("started", "done") and (jids is None or line["jid"] in jids)
        )


def most_in_a_second(starts: Sequence[float]) -> int:
    """The most starts in any second."""
    first = most = 0
    for last, at in enumerate(starts):
        while starts[first] <= at - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_overtaken(order: Sequence[int]) -> int:
    """The most jobs that had not begun when a later one began. ``order``: numbers of jobs as they began.

    Places are given in order. A job that holds one of three may begin late, because its process does; two
    others may then begin before it, again and again.
    """
    missing: set[int] = set()
    last, most = -1, 0
    for number in order:
        missing.discard(number)
        missing |= set(range(last + 1, number))
        last = max(last, number)
        most = max(most, len([one for one in missing if one < number]))
    return most
