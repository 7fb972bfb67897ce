"""The process in which shadows run, as its worker sees it.

A dry run within the worker would keep the interpreter lock from the threads that begin and settle real jobs.
So it has a process of its own, with the lowest priority. The process starts with the first shadow, and ends
with the last one or with the worker.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bridge.moves.comparison import Compared
from bridge.moves.frames import Frames, packed

logger = logging.getLogger(__name__)

CODE = "from bridge.execution.shadow_main import main; main()"
PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
#: A process of low priority loads an application slowly on a busy machine.
START_SECONDS = 120.0
_LOOK_SECONDS = 1.0
#: Fields of /proc/<pid>/schedstat.
_SPENT, _WAITED = 0, 1
_MOST_BYTES = 65_536


class NotStarted(Exception):
    """The process for shadows did not start. The message says why."""


class Ended(Exception):
    """The dry run has ended its process, or was ended with it. The message says how."""

    def __init__(self, how: str, cpu_seconds: float = 1.0) -> None:
        """``cpu_seconds``: CPU time of the process; to load an application costs about a second."""
        super().__init__(how)
        self.cpu_seconds = cpu_seconds


class DryRuns:
    """Used by one thread; ``stop`` by any."""

    def __init__(self, origin: Callable[[], Mapping[str, Any]]) -> None:
        """``origin``: what the process needs to know to load the worker's tasks."""
        self._origin = origin
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._frames = Frames()
        self._statistics: int | None = None
        """File descriptor of /proc/<pid>/schedstat, where there is one."""
        # A pool process that inherits the socket would keep it open after the worker's death.
        os.register_at_fork(after_in_child=self._forget)

    def run(self, payload: bytes, ruby: bytes, seconds: float) -> Compared:
        """Run the native task of this job, and compare its outcome with Ruby's.

        Raises:
            NotStarted: the process cannot start, or cannot load the task.
            Ended: the process has died, or was ended because the run took longer than ``seconds``.
        """
        if self._process is None:
            self._start()
        spent = self._scheduled(_SPENT)
        try:
            self._send(packed(payload, ruby))
            reply = self._receive(seconds)
        except OSError as error:
            raise Ended(self._abandon(str(error))) from None
        if reply is None:
            spent = self._scheduled(_SPENT) - spent
            self.stop()
            raise Ended(f"DeadlineExceeded: ended after {seconds:.3g} s", spent)
        return Compared(**json.loads(reply))

    def stop(self) -> None:
        """End the process, and what runs there."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._close()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            try:
                # A session of its own: Ctrl-C at the terminal is for the worker.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", CODE, str(number)],
                    pass_fds=(number,),
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": PACKAGE_ROOT},
                    start_new_session=True,
                )
            except (OSError, subprocess.SubprocessError) as error:
                ours.close()
                raise NotStarted(str(error)) from error
        self._socket, self._frames = ours, Frames()
        with contextlib.suppress(OSError):
            self._statistics = os.open(f"/proc/{self._process.pid}/schedstat", os.O_RDONLY)
        try:
            self._send(packed(json.dumps(self._origin()).encode()))
            said = self._receive(START_SECONDS)
        except OSError as error:
            raise NotStarted(self._abandon(str(error))) from None
        problem = "it did not start in time" if said is None else json.loads(said).get("error")
        if problem:
            self.stop()
            raise NotStarted(problem)

    def _send(self, data: bytes) -> None:
        if (its_socket := self._socket) is None:
            raise ConnectionError("stopped")
        its_socket.settimeout(START_SECONDS)
        its_socket.sendall(data)

    def _receive(self, seconds: float) -> bytes | None:
        """The next reply; None if it takes longer. Time in which the process waits for a core is its own."""
        began, waited = time.monotonic(), self._scheduled(_WAITED)
        while (frame := self._frames.take()) is None:
            if (its_socket := self._socket) is None:
                raise ConnectionError("stopped")
            left = seconds - (time.monotonic() - began) + (self._scheduled(_WAITED) - waited)
            if left <= 0:
                return None
            its_socket.settimeout(min(left, _LOOK_SECONDS))
            with contextlib.suppress(TimeoutError):
                if not (data := its_socket.recv(_MOST_BYTES)):
                    raise ConnectionError("its socket is closed")
                self._frames.feed(data)
        return frame

    def _scheduled(self, field: int) -> float:
        """Seconds that Linux counts for the process: on a core, or ready to run without one."""
        if self._statistics is None:
            return 0.0
        try:
            return int(os.pread(self._statistics, 100, 0).split()[field]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def _abandon(self, error: str) -> str:
        """How the process has ended, in words."""
        process = self._process
        status: int | None = None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(_LOOK_SECONDS)
        self.stop()
        how = error if status is None else f"signal {-status}" if status < 0 else f"status {status}"
        return f"ProcessEnded: {how}"

    def _close(self) -> None:
        ours, self._socket = self._socket, None
        if ours is not None:
            ours.close()
        statistics, self._statistics = self._statistics, None
        if statistics is not None:
            os.close(statistics)

    def _forget(self) -> None:
        self._process = None
        self._close()
