"""The keeper: a small process of its own that renews the lease, and ends it at once when the worker is gone.

A job that holds the interpreter lock, or a consumer that is busy, must not lose the lease; a worker that was
killed must lose it now and not after its term. The worker writes a line every 0.8 s: its identity and how far
it has come. The end of the pipe is the end of the worker.

Started by :mod:`bridge.sidekiq.lease.keeper`. The first line on its standard input is JSON:
``{"address": {...}, "length_ms": N, "scripts": {"renew": [sha, text], "end": [sha, text]}}``. Each
import stays in memory beside each worker: 7 to 8 MB, where redis-py and dataclasses made 26.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping

from bridge import errors
from bridge.redis.address import RedisAddress
from bridge.redis.minimal_client import MinimalRedis
from bridge.sidekiq import keys
from bridge.sidekiq.lease.stall import StallWatch

Clock = Callable[[], float]
Sleep = Callable[[float], None]

#: How long to wait for Redis at the end, and between two attempts.
END_SECONDS = 120.0
END_PAUSE_SECONDS = 0.5


class LeaseKeys:
    """The lease in Redis, as far as its keeper writes it. Raises as :class:`MinimalRedis`."""

    def __init__(self, redis: MinimalRedis, scripts: Mapping[str, tuple[str, str]]) -> None:
        self._redis = redis
        self._scripts = scripts

    def renew(self, identity: str, length_ms: int) -> bool:
        """Whether it is held; else it is gone or being reaped."""
        names = [keys.LEASE, keys.inflight(identity), keys.arrived(identity)]
        return bool(self._redis.run(self._scripts["renew"], names, identity, length_ms, "renew"))

    def leave(self, identity: str) -> None:
        """End it."""
        names = [keys.LEASE, keys.inflight(identity), keys.fence(identity), keys.arrived(identity)]
        self._redis.run(self._scripts["end"], names, identity, 0, "gone")


class Watch:
    """Over one worker."""

    def __init__(self, lease: LeaseKeys, length_ms: int, identity: str = "") -> None:
        self.lease = lease
        self.length_ms = length_ms
        self.identity = identity
        self.line = ""
        self.stall = StallWatch()
        self.renewed_at = 0.0

    def heard(self, line: str) -> None:
        """The worker has reported: its identity and how far it has come."""
        self.line = line
        self.identity = line.partition(" ")[0]

    def renew_if_due(self, now: float) -> None:
        """Renew, unless the worker hangs. An outage is waited for: there is nothing else to do."""
        if not self.identity or not self.stall.moves(self.line, now):
            return
        if now - self.renewed_at >= self.length_ms / 3000:
            try:
                if not self.lease.renew(self.identity, self.length_ms):
                    self.identity = ""  # the worker finds out by itself and reports another
                self.renewed_at = now
            except errors.StoreError:
                pass  # tried again at the next line

    def end(
        self, seconds: float = END_SECONDS, clock: Clock = time.monotonic, sleep: Sleep = time.sleep
    ) -> bool:
        """The worker is gone: what it still held is free for others from now on.

        The keeper waits that long for Redis to come back. A lease that its own keeper ended is taken over at
        once; one that merely ran out waits until a reaper has settled in again. Returns whether it was ended.
        """
        deadline = clock() + seconds
        while self.identity:
            try:
                self.lease.leave(self.identity)
                return True
            except errors.StoreUnavailable:
                if clock() >= deadline:
                    return False
                sleep(END_PAUSE_SECONDS)
            except errors.StoreError:
                return False  # no waiting helps: the lease ends by itself
        return True


def main(pipe: int = 0) -> None:
    """Serve one worker until its end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the end of the pipe ends it: a TERM for the whole group must not end the lease of a worker
        # that drains.
        signal.signal(number, signal.SIG_IGN)
    lines = _Lines(pipe)
    first = json.loads(lines.wait())
    lease = LeaseKeys(MinimalRedis(RedisAddress(**first["address"])), first["scripts"])
    watch = Watch(lease, first["length_ms"])
    while (found := lines.read(watch.length_ms / 6000)) is not None:
        for line in found:
            watch.heard(line)
        watch.renew_if_due(time.monotonic())
    watch.end()


class _Lines:
    """Lines of a pipe, without a buffer that select would not see."""

    def __init__(self, pipe: int) -> None:
        self._descriptor = pipe
        self._rest = b""
        self._ready: list[str] = []

    def wait(self) -> str:
        """The first line, however long it takes."""
        while not self._ready:
            found = self.read(60.0)
            if found is None:
                raise SystemExit(0)
            self._ready = found
        return self._ready.pop(0)

    def read(self, seconds: float) -> list[str] | None:
        """Lines that came within the time; None at the end of the pipe."""
        if self._ready:
            found, self._ready = self._ready, []
            return found
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return []
        chunk = os.read(self._descriptor, 65536)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode() for line in lines]
