"""Code in a fork of the test's own process."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable


def begin_in_fork(code: Callable[[], object]) -> int:
    """Run ``code`` in a child. Its status is what that returns, 0 for None, 99 if it raises. Gives the pid.

    An exception must not lead the child back into pytest. It would go through the rest of the run beside its
    parent, and end the servers that they share.
    """
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    status = 99
    try:
        status = int(code() or 0)  # type: ignore[call-overload]
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def status_of(pid: int) -> int:
    """Wait for its end."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
