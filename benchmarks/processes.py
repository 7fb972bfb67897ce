"""Starts, watches and ends the processes of a run: each by its own pid, come what may."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import procfs

ROOT = Path(__file__).resolve().parent.parent
PYTHON_BIN = Path(sys.executable).parent
STOP_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)

#: Prefixes of variables that would change the settings of a peer from outside.
FOREIGN = ("BRIDGE_", "REDIS_", "CELERY", "RAILS_", "RACK_", "APP_ENV", "SIDEKIQ", "RUBY", "BUNDLE", "DYNO")


class BenchmarkFailed(Exception):
    """A measurement that gave no figure; the text says why."""


#: Whether every child of this process is of a run, and may be ended after each measurement.
_adopts = False


def adopt_orphans() -> None:
    """Make this process the parent of what its children leave behind, so that nothing outlives the run."""
    global _adopts
    _adopts = True
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_orphans(seconds: float = STOP_SECONDS) -> None:
    """Kill what is left of the children's children, and wait for their end.

    Only in a process that adopts them: any other has children that are not of a run.
    """
    if not _adopts:
        return
    deadline = time.monotonic() + seconds
    # Killed is not gone: Ctrl-C once left a process that its test still found.
    while (left := procfs.descendants([os.getpid()]) - {os.getpid()}) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # all of them are waited for
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


def free_port() -> int:
    """A TCP port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], seconds: float, what: str, pause: float = 0.005) -> None:
    """Wait for a condition. Raises BenchmarkFailed when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(pause)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what is meant for one of the peers, and ``extra``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    # Installed packages are compiled; without this the bridge's own modules would be compiled at each start.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    # Ruby 3.1 warns of its own gems; Python buffers what goes into a file.
    return kept | {"LANG": "C.UTF-8", "RUBYOPT": "-W0", "PYTHONUNBUFFERED": "1"} | dict(extra)


@contextmanager
def running(
    command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the time of the block, ended with TERM, and with KILL where that is not enough."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=environment(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        yield process
    finally:
        end([process])


def end(processes: Sequence[subprocess.Popen[bytes]], seconds: float = STOP_SECONDS) -> None:
    """TERM to all of them at once, then wait; KILL to what is left of them and of their children."""
    family = procfs.descendants([process.pid for process in processes])
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):  # the KILL below ends it
            process.wait(max(0.0, deadline - time.monotonic()))
    _kill_the_rest(family)
    for process in processes:
        process.wait()


def _kill_the_rest(family: set[int]) -> None:
    # All of them are ours: this process is the subreaper of its children's children.
    for pid in family & procfs.descendants([os.getpid()]):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, signal.SIGKILL)


def tail(log: Path, characters: int = 1500) -> str:
    """The end of a log, for a sentence about what went wrong."""
    return log.read_text(errors="replace")[-characters:].strip() if log.exists() else ""


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
