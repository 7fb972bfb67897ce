"""Starts processes, and learns what becomes of them: sd_notify(3) messages, ends, and our own signals."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from signal import Signals

from bridge.errors import ConfigurationError
from bridge.supervisor.output import Output, Tail
from bridge.supervisor.programs import Program

#: A ready process that gives no sign of life for this long is killed, as by systemd's WatchdogSec.
WATCHDOG_SECONDS = 30
_PR_SET_PDEATHSIG = 1


class Child:
    """One started process."""

    def __init__(self, program: Program, pid: int, notices: socket.socket, said: Tail) -> None:
        self.program, self.pid = program, pid
        self.notices, self._said = notices, said
        self.started_at = self.heard_at = time.monotonic()
        self.ready_at: float | None = None
        self.status: int | None = None
        """Its exit status, or minus the signal that killed it; None while it runs."""
        self.kill_at: float | None = None
        self.is_leaving = False
        """Its end is wanted."""

    @property
    def name(self) -> str:
        """As in the log."""
        return self.program.name

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.status is None

    @property
    def is_ready(self) -> bool:
        """Whether it runs and has said READY."""
        return self.is_alive and self.ready_at is not None

    def hears_nothing(self, now: float) -> bool:
        """Whether a ready process has stopped its signs of life."""
        return self.is_ready and not self.is_leaving and now - self.heard_at > WATCHDOG_SECONDS

    def signal(self, number: Signals) -> None:
        """Send it a signal, if it runs."""
        if self.is_alive:  # not reaped yet, so the pid is still its own
            os.kill(self.pid, number)

    def leave(self, number: Signals, seconds: float) -> None:
        """End it in order; SIGKILL follows after ``seconds``."""
        self.is_leaving = True
        self.kill_at = time.monotonic() + seconds
        self.signal(number)

    def end_in_words(self) -> str:
        """How it ended, with its own last words on stderr."""
        assert self.status is not None
        if self.status < 0:
            return f"{self.name} (pid {self.pid}) was killed by {Signals(-self.status).name}"
        words = self._said.text() if self.status else ""
        return f"{self.name} (pid {self.pid}) ended with status {self.status}" + (
            f": {words}" if words else ""
        )


class Processes:
    """All children of this process. As PID 1 it also reaps what other processes leave behind."""

    def __init__(self, output: Output, directory: Path, signals: Iterable[Signals]) -> None:
        self._output, self._directory = output, directory
        self._selector = selectors.DefaultSelector()
        self._count = 0
        self.running: dict[int, Child] = {}
        self._signals, writer = socket.socketpair()
        for end in (self._signals, writer):
            end.setblocking(False)
        self._writer = writer
        self._selector.register(self._signals, selectors.EVENT_READ)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (*signals, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def start(self, program: Program) -> Child:
        """Start a program. Raises ConfigurationError if its command does not exist."""
        self._count += 1
        path = self._directory / f"n{self._count}"
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notices.bind(str(path))
        notices.setblocking(False)
        pipes = os.pipe(), os.pipe()
        try:
            process = subprocess.Popen(
                program.command,
                env={
                    **program.environment,
                    "NOTIFY_SOCKET": str(path),
                    "WATCHDOG_USEC": str(WATCHDOG_SECONDS * 1_000_000),
                },
                cwd=program.directory,
                stdin=subprocess.DEVNULL,
                stdout=pipes[0][1],
                stderr=pipes[1][1],
                # Ctrl-C reaches this process alone: two signals would mean a quick stop to a worker.
                process_group=0,
                preexec_fn=_end_with_parent(os.getpid()),
            )
        except OSError as error:
            raise ConfigurationError(f"{program.name} cannot be started: {error}") from None
        finally:
            os.close(pipes[0][1])
            os.close(pipes[1][1])
        self._output.copy(pipes[0][0], program.name, self._output.stdout)
        child = Child(
            program, process.pid, notices, self._output.copy(pipes[1][0], program.name, self._output.stderr)
        )
        process.returncode = 0  # `_reap` waits for it, and not subprocess
        self._selector.register(notices, selectors.EVENT_READ, child)
        self.running[child.pid] = child
        return child

    def turn(self, seconds: float) -> tuple[list[Signals], list[Child]]:
        """Wait for an event. Gives the signals that arrived, and the children that ended."""
        received: list[Signals] = []
        for key, _ in self._selector.select(max(0.0, seconds)):
            if isinstance(key.data, Child):
                _hear(key.data)
            else:
                with contextlib.suppress(BlockingIOError):
                    received += [Signals(number) for number in self._signals.recv(4096)]
        return [number for number in received if number != signal.SIGCHLD], self._reap()

    def _reap(self) -> list[Child]:
        ended = []
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if (child := self.running.pop(pid, None)) is not None:
                    child.status = os.waitstatus_to_exitcode(status)
                    self._forget(child)
                    ended.append(child)
        return ended

    def _forget(self, child: Child) -> None:
        self._selector.unregister(child.notices)
        Path(child.notices.getsockname()).unlink(missing_ok=True)
        child.notices.close()


def _hear(child: Child) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            lines = child.notices.recv(4096).split(b"\n")
            child.heard_at = time.monotonic()
            if b"READY=1" in lines and child.ready_at is None:
                child.ready_at = child.heard_at


def _end_with_parent(parent: int) -> Callable[[], object] | None:
    """A new process first asks the kernel for TERM, in case this process is killed outright."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask
