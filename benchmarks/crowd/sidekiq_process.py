"""A Sidekiq 8.1 process as Redis sees it: the commands of ``fetch.rb``, ``launcher.rb``, ``scheduled.rb`` and
``metrics/tracking.rb`` (8.1.7), sent by the same light client as those of the bridge's workers.

Each of its slots has a connection that waits in BRPOP for two seconds at a time. A job costs no other
command: counts and metrics go out with the heartbeat, every ten seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import hiredis

from benchmarks.crowd.loop import Loop
from bridge.redis.address import RedisAddress
from bridge.redis.encoding import Words, packed
from bridge.sidekiq.lease.identity import new_identity

BRPOP_SECONDS, BEAT_SECONDS, POLL_SECONDS = 2, 10.0, 5.0
FIRST_POLL_SECONDS, FIRST_POLL_SPREAD = 10.0, 5.0
STATS_TTL, SHORT_TTL, MIDDLE_TTL, ROW_TTL = 5 * 365 * 86_400, 8 * 3_600, 3 * 86_400, 60
#: Does what the script of ``scheduled.rb`` does.
TAKE_DUE = """local due = redis.call('zrange', KEYS[1], '-inf', ARGV[1], 'byscore', 'limit', 0, 1)
if due[1] then redis.call('zrem', KEYS[1], due[1]) end
return due[1]"""


class Line:
    """One connection. ``ask`` waits for its answers."""

    def __init__(self, address: RedisAddress) -> None:
        self.socket = socket.create_connection((address.host, address.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self.ask(("HELLO", "3"))

    def send(self, *commands: Words) -> None:
        """In one write."""
        self.socket.sendall(b"".join(map(packed, commands)))

    def ask(self, *commands: Words) -> list[Any]:
        """In one round trip. Raises hiredis.ReplyError where Redis refuses one."""
        self.send(*commands)
        found: list[Any] = []
        while len(found) < len(commands):
            found += self.read()
        return found

    def read(self) -> list[Any]:
        """The answers that have come; waits for the first."""
        self._reader.feed(self.socket.recv(65_536))
        found = []
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
            found.append(reply)
        return found


class SidekiqProcess:
    """``slots`` threads that fetch, a heartbeat and a poller of due jobs."""

    def __init__(self, address: RedisAddress, loop: Loop, queues: Sequence[str], slots: int) -> None:
        self._loop = loop
        self._queues = queues
        self._fetching = [Line(address) for _ in range(slots)]
        self._line = Line(address)
        self._identity = new_identity()
        self._done = 0
        self._job_class = "NoopJob"
        self._brpop: Words = ("brpop", *(f"queue:{queue}" for queue in queues), BRPOP_SECONDS)
        self._stopping = False

    def start(self) -> None:
        """Register and begin."""
        self._script = self._line.ask(("SCRIPT", "LOAD", TAKE_DUE))[0]
        self._loop.every(self._beat, BRPOP_SECONDS + random.uniform(0, BEAT_SECONDS))
        # Who registers is waited for, and by then all slots wait for jobs.
        self._loop.call_in(BRPOP_SECONDS, self._register)
        self._loop.every(self._poll, FIRST_POLL_SECONDS + random.uniform(0, FIRST_POLL_SPREAD))
        for line in self._fetching:
            self._fetch(line, random.uniform(0, BRPOP_SECONDS))

    def _fetch(self, line: Line, first_in: float) -> None:
        def answered() -> None:
            for reply in line.read():
                self._done += reply is not None
                if not self._stopping:
                    line.send(self._brpop)

        self._loop.watch(line.socket, answered)
        self._loop.call_in(first_in, lambda: line.send(self._brpop))

    # -- the heartbeat

    def _beat(self) -> float:
        self._flush_counts()
        self._line.ask(("MULTI",), ("UNLINK", f"{self._identity}:work"), ("EXEC",))
        self._line.ask(("PING",))
        self._register()
        self._flush_metrics()
        self._done = 0
        return BEAT_SECONDS

    def _register(self) -> None:
        key = self._identity
        fields: dict[str, str | float] = {
            "info": self._info(),
            "concurrency": len(self._fetching),
            "busy": 0,
            "beat": time.time(),
        }
        fields |= {"rtt_us": 100, "quiet": "false", "rss": 40_000}
        row = [word for field in fields.items() for word in field]
        self._line.ask(
            ("MULTI",),
            ("SADD", "processes", key),
            ("EXISTS", key),
            ("HSET", key, *row),
            ("EXPIRE", key, ROW_TTL),
            ("RPOP", f"{key}-signals"),
            ("EXEC",),
        )

    def _flush_counts(self) -> None:
        if self._done:
            today = datetime.now(UTC).strftime("%Y-%m-%d")
            for_both = (("processed", self._done), ("failed", 0))
            self._line.ask(*[words for name, count in for_both for words in _counted(name, count, today)])

    def _flush_metrics(self) -> None:
        if not self._done:
            return
        now, name = datetime.now(UTC), self._job_class
        minute = f"{now:%y%m%d}|{now.hour}:{now:%M}"
        histogram = f"h|{name}-{now.day}-{now.hour}:{now.minute}"
        bits = ("BITFIELD", histogram, "OVERFLOW", "SAT", "INCRBY", "u16", "#0", self._done)
        self._line.ask(bits, ("EXPIRE", histogram, SHORT_TTL))
        for key, ttl in ((f"j|{minute[:-1]}", MIDDLE_TTL), (f"j|{minute}", SHORT_TTL)):
            counts = ((f"{name}|ms", self._done), (f"{name}|p", self._done))
            self._line.ask(*[("HINCRBY", key, *count) for count in counts], ("EXPIRE", key, ttl))

    def _info(self) -> str:
        weights = dict.fromkeys(self._queues, 0)
        queues = {"concurrency": len(self._fetching), "mode": "strict", "weights": weights}
        facts: dict[str, object] = {"hostname": socket.gethostname(), "started_at": 1.0, "pid": os.getpid()}
        facts |= {"tag": "", "capsules": {"default": queues}, "queues": self._queues, "weights": [{}]}
        facts |= {"labels": [], "identity": self._identity, "version": "8.1.7", "embedded": False}
        return json.dumps(facts)

    # -- due jobs

    def _poll(self) -> float:
        now = str(time.time())
        for key in ("retry", "schedule"):
            self._line.ask(("EVALSHA", self._script, 1, key, now))
        (processes,) = self._line.ask(("SCARD", "processes"))
        # As random_poll_interval: one process of all looks every five seconds on average.
        spread = random.random() + 0.5 if processes < 10 else random.random() * 2
        return float(processes * POLL_SECONDS * spread)

    def stop(self) -> None:
        """End in order: jobs that Redis has handed out meanwhile are done."""
        self._stopping = True
        for line in self._fetching:
            self._loop.unwatch(line.socket)
            line.socket.settimeout(BRPOP_SECONDS + 1)
            with contextlib.suppress(TimeoutError):  # it had not begun to wait
                self._done += sum(reply is not None for reply in line.read())
        self._flush_counts()
        self._line.ask(("SREM", "processes", self._identity), ("UNLINK", f"{self._identity}:work"))


def _counted(name: str, count: int, today: str) -> Sequence[Words]:
    of_day = f"stat:{name}:{today}"
    return (
        ("INCRBY", f"stat:{name}", count),
        ("INCRBY", of_day, count),
        ("EXPIRE", of_day, STATS_TTL),
    )
