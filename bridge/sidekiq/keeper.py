"""The keeper: a small process of its own that renews the lease, and ends it at once when the worker is gone.

A job that holds the interpreter lock, or a consumer that is busy, must not lose the lease; a worker that was
killed must lose it
now and not after its term. The worker writes a line twice a second: its identity and how far it has come.
The end of the pipe is the end of the worker.

Run as ``python -m bridge.sidekiq.keeper``; the first line on its standard input is JSON: ``{"address":
{...}, "length_ms": N}``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import IO, BinaryIO

from bridge import errors
from bridge.sidekiq.claims import LeaseState
from bridge.sidekiq.connection import RedisAddress, connect
from bridge.sidekiq.lease import StallWatch
from bridge.sidekiq.store import RedisStore

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
Sleep = Callable[[float], None]

STOP_SECONDS = 5
#: How long to wait for Redis at the end, and between two attempts.
END_SECONDS = 120.0
END_PAUSE_SECONDS = 0.5
#: Room for some hundred lines: a keeper that reads none of them for so long hangs, and is replaced.
PIPE_BYTES = 4096


class Keeper:
    """The worker's side: starts the process, reports to it, and starts another where it was killed."""

    def __init__(self, address: RedisAddress, length_seconds: float) -> None:
        self._first_line = json.dumps({"address": asdict(address), "length_ms": int(length_seconds * 1000)})
        self._process: subprocess.Popen[bytes] | None = None
        # A pool process that inherits the pipe would keep it open after the worker's death.
        os.register_at_fork(after_in_child=self._forget)

    def report(self, identity: str, progress: int) -> None:
        """Tell the keeper that the worker lives."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        try:
            self._write(f"{identity} {progress}\n")
        except BlockingIOError:
            # It has read nothing for many minutes (stopped, frozen): waiting for it would cost the lease.
            logger.warning("the keeper of the lease hangs; starting another")
            self._abandon()
        except OSError:
            logger.warning("the keeper of the lease has died; starting another")
            self._abandon()

    def stop(self, *, lease_ended: bool) -> None:
        """Let it end. A lease that could not be ended is left to it: it waits for Redis."""
        if self._process is None:
            return
        self._pipe(self._process).close()
        if not lease_ended:
            self._process = None
            return
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._abandon()

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C at the terminal is for the worker, which then stops in order.
        command = [sys.executable, "-m", "bridge.sidekiq.keeper"]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, env=environ, start_new_session=True
        )
        self._process = process
        self._write(self._first_line + "\n")
        descriptor = self._pipe(process).fileno()
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(descriptor, False)
        return process

    def _abandon(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_SECONDS)
            self._pipe(process).close()

    def _write(self, line: str) -> None:
        assert self._process is not None
        # One line is less than the pipe takes at once: all of it goes in, or nothing.
        os.write(self._pipe(self._process).fileno(), line.encode())

    def _pipe(self, process: subprocess.Popen[bytes]) -> IO[bytes]:
        assert process.stdin is not None
        return process.stdin

    def _forget(self) -> None:
        if self._process is not None:
            os.close(self._pipe(self._process).fileno())
            self._process = None


@dataclass
class Watch:
    """The keeper's own side."""

    store: RedisStore
    length_ms: int
    stall: StallWatch = field(default_factory=StallWatch)
    identity: str = ""
    line: str = ""
    renewed_at: float = 0.0

    def heard(self, line: str) -> None:
        """The worker has reported: its identity and how far it has come."""
        self.line = line
        self.identity = line.partition(" ")[0]

    def renew_if_due(self, now: float) -> None:
        """Renew, unless the worker hangs. An outage is waited for: there is nothing else to do."""
        if not self.identity or not self.stall.moves(self.line, now):
            return
        if now - self.renewed_at >= self.length_ms / 3000:
            with contextlib.suppress(errors.StoreError):
                if self.store.lease(self.identity, self.length_ms) is LeaseState.FENCED:
                    self.identity = ""  # the worker finds out by itself and reports another
                self.renewed_at = now

    def end(
        self, seconds: float = END_SECONDS, clock: Clock = time.monotonic, sleep: Sleep = time.sleep
    ) -> bool:
        """The worker is gone: what it still held is free for others from now on.

        An outage of Redis is waited for, so long. A lease that its own keeper ended is taken over at once;
        one that merely ran out waits until a reaper has settled in again. Returns whether it was ended.
        """
        deadline = clock() + seconds
        while self.identity:
            try:
                self.store.leave(self.identity)
                return True
            except errors.StoreUnavailable:
                if clock() >= deadline:
                    return False
                sleep(END_PAUSE_SECONDS)
            except errors.StoreError:
                return False  # no waiting helps: the lease ends by itself
        return True


def main(pipe: BinaryIO) -> None:
    """Serve one worker until its end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the end of the pipe ends it: a TERM for the whole group must not end the lease of a worker
        # that drains.
        signal.signal(number, signal.SIG_IGN)
    lines = _Lines(pipe)
    first = json.loads(lines.wait())
    watch = Watch(RedisStore(connect(RedisAddress(**first["address"]))), first["length_ms"])
    while (found := lines.read(watch.length_ms / 6000)) is not None:
        for line in found:
            watch.heard(line)
        watch.renew_if_due(time.monotonic())
    watch.end()


class _Lines:
    """Lines of a pipe, without a buffer that select would not see."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._descriptor = pipe.fileno()
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


if __name__ == "__main__":
    main(sys.stdin.buffer)
