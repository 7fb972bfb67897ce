"""The worker's side of the keeper: starts that process, reports to it, and starts another where it died."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from bridge.redis.address import RedisAddress
from bridge.sidekiq.store import lua

logger = logging.getLogger(__name__)

STOP_SECONDS = 5
#: Not by ``-m``: what Python loads for that is a tenth of the process.
CODE = "from bridge.sidekiq.lease.keeper_main import main; main()"
PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])
#: Room for the first line (some 1.5 kB) or for a hundred of the others: a keeper that reads none of them in
#: that time hangs, and is replaced.
PIPE_BYTES = 4096


class Keeper:
    """The process that renews the lease while this one lives."""

    def __init__(self, address: RedisAddress, length_seconds: float) -> None:
        self._first_line = _first_line(address, int(length_seconds * 1000))
        self._process: subprocess.Popen[bytes] | None = None
        # A pool process that inherits the pipe would keep it open after the worker's death.
        os.register_at_fork(after_in_child=self._forget)

    def report(self, identity: str, progress: int) -> None:
        """Tell the keeper that the worker lives. Whatever happens to it costs a warning, never the round."""
        if self._is_there():
            self._tell(f"{identity} {progress}\n")

    def _is_there(self) -> bool:
        if self._process is not None and self._process.poll() is None:
            return True
        try:
            self._start()
        except (OSError, subprocess.SubprocessError) as error:
            # No process or memory to be had: the worker renews the lease itself meanwhile.
            logger.warning("the keeper of the lease cannot be started (%s); trying again soon", error)
            self._abandon()
            return False
        return True

    def _tell(self, line: str) -> None:
        try:
            self._write(line)
        except BlockingIOError:
            # It has read nothing for a hundred rounds (stopped, frozen): waiting for it would cost the lease.
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

    def _start(self) -> None:
        # A session of its own: Ctrl-C at the terminal is for the worker, which then stops in order. Not the
        # worker's standard output: while it waits for Redis, who reads that would not see its end.
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", "-c", CODE],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_search_path())},
            start_new_session=True,
        )
        descriptor = self._pipe(process).fileno()
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._write(self._first_line + "\n")
        os.set_blocking(descriptor, False)

    def _abandon(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            logger.warning("the keeper of the lease, process %d, does not die", process.pid)
        self._pipe(process).close()  # not before its end: it would take that for ours

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


def _search_path() -> list[str]:
    """The worker's, behind Python's own library: Celery puts the working directory first, json.py and all.

    And where this package is: Celery finds an application in the working directory, and then forgets that.
    """
    standard = os.path.dirname(os.__file__)
    return [standard, os.path.join(standard, "lib-dynload"), PACKAGE_ROOT, *filter(None, sys.path)]


def _first_line(address: RedisAddress, length_ms: int) -> str:
    """All that it must know. The scripts as well: what reads them from the package is not small."""
    taught = {name: _script(f"lease_{name}") for name in ("renew", "end")}
    return json.dumps({"address": address.as_dict(), "length_ms": length_ms, "scripts": taught})


def _script(name: str) -> tuple[str, str]:
    script = lua.load(name)
    return script.sha.decode(), script.text.decode()
