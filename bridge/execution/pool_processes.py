"""Signals to the processes of a prefork pool.

billiard waits for a process that has ended, and keeps its pid in the request and in lists of its own for a
while. The kernel may have given that number to a stranger by then, which any signal would end.
"""

from __future__ import annotations

import contextlib
import os


def is_running(pid: int) -> bool:
    """Whether this process has such a child, and it runs. Leaves it to billiard to wait for its end."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def signal_running(pid: int, number: int) -> None:
    """Signal a child that runs; any other process is left alone."""
    if is_running(pid):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)
