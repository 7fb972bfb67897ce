"""Processes that the tests start: each with its log in a file, each ended by its own pid, come what may.

A pid is a process' own until its parent has waited for it. Then the kernel gives the number away again, and
a signal would end a stranger: the numbers wrap more than once in one run of the suite. So the end of a
process is looked at without waiting for it, and only ``kill`` waits, when the last signal is sent.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from tests.support.waiting import LOOK_SECONDS, NeverHappened, wait_for

ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
#: Hypothesis sets the other one to the same seed in each process.
_random = random.SystemRandom()

#: Every process that is running now; the report of a failed test shows their logs.
RUNNING: list[Process] = []
#: Pids of those that were ended because they did not get ready, and of their children: they may have run
#: jobs all the same.
UNREADY: set[int] = set()


class Process:
    """One child process, in a process group of its own."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> None:
        self.name = name
        self.log_path = directory / f"{name}.log"
        self._shown = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.popen = subprocess.Popen(
                [str(word) for word in command],
                cwd=cwd,
                env=clean_environment() | dict(env or {}),
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        # Held open: a test may remove the directory while the process runs. Its report still shows the log.
        self._log = os.open(self.log_path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._log)
        RUNNING.append(self)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        return self.returncode is None

    @property
    def returncode(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs."""
        if not self._holds_its_pid():
            return self.popen.returncode
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def _holds_its_pid(self) -> bool:
        """Whether nobody has waited for it, and this process is the one that may: a fork of it may not."""
        if self.popen.returncode is None:
            try:
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self.popen.poll()
        return self.popen.returncode is None

    @property
    def log(self) -> str:
        """All it has written so far."""
        return self.log_path.read_text(errors="replace")

    def unseen_log(self) -> str:
        """What it has written since this was last asked."""
        text = b""
        while chunk := os.pread(self._log, 1 << 20, self._shown):
            self._shown += len(chunk)
            text += chunk
        return text.decode(errors="replace")

    def wait_ready(self, condition: object, seconds: float = 30.0) -> None:
        """Wait for ``condition()``; fail at once, with the log, when the process ends instead."""
        assert callable(condition)

        def ready_or_gone() -> object:
            if not self.is_alive:
                raise NeverHappened(f"{self.name} ended with {self.returncode}:\n{self.log[-4000:]}")
            return condition()

        try:
            wait_for(ready_or_gone, f"{self.name} to be ready", seconds)
        except NeverHappened as error:
            raise NeverHappened(f"{error}\n{self.log[-4000:]}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send it to the process alone. One that has ended by itself takes no notice."""
        if not self._holds_its_pid():
            raise ProcessLookupError(f"{self.name} (pid {self.pid}) was ended before")
        os.kill(self.pid, number)

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit status, once it has ended by itself."""
        if (status := self._end_within(seconds)) is None:
            raise NeverHappened(f"{self.name} still runs after {seconds:g} s:\n{self.log[-4000:]}")
        return status

    def kill(self) -> None:
        """End it and what it started, now: SIGKILL to its own group. A second time does nothing."""
        if self._holds_its_pid():
            os.killpg(self.pid, signal.SIGKILL)
            self.popen.wait(10)
        self._forget()

    def stop(self, seconds: float = 15.0) -> None:
        """End it in order where it can, by force where it cannot."""
        if self.is_alive:
            self.signal(signal.SIGTERM)
            self._end_within(seconds)
        self.kill()

    def _end_within(self, seconds: float) -> int | None:
        deadline = time.monotonic() + seconds
        while (status := self.returncode) is None and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return status

    def _forget(self) -> None:
        if self in RUNNING:
            RUNNING.remove(self)


@contextlib.contextmanager
def ended_unless_ready(process: Process) -> Iterator[None]:
    """One that does not get ready must not stay: whoever tries again would start the machine full."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
            UNREADY.update(child.pid for child in children)
        UNREADY.add(process.pid)
        process.kill()
        raise


def clean_environment() -> dict[str, str]:
    """This process's environment without what would reach the project's settings or a Rails app."""
    gone = (
        "BRIDGE_",
        "REDIS_",
        "CELERY",
        "RAILS_",
        "RACK_",
        "APP_ENV",
        "SIDEKIQ",
        "RUBY",
        "BUNDLE",
        "PYTEST",
        "DYNO",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(gone)}
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}


def free_port(count: int = 1) -> int:
    """A TCP port that nobody listens on; the first of ``count`` such, one after the other.

    Not one of those that the kernel gives to clients: before a server listens there, or while it is down, any
    of the suite's thousands of connections might take it, even one that looks for that server.
    """
    clients_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = _random.randrange(10_000, clients_from - count)
        with contextlib.suppress(OSError), contextlib.ExitStack() as sockets:
            for number in range(port, port + count):
                sockets.enter_context(socket.socket()).bind(("127.0.0.1", number))
            return port


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_all() -> None:
    for process in list(RUNNING):
        process.kill()


atexit.register(_kill_all)
