"""The name of this worker in Redis."""

from __future__ import annotations

import os
import socket


def new_identity() -> str:
    """``host:pid:nonce``, as Sidekiq's; never the same twice, also where containers share host and pid."""
    hostname = os.environ.get("DYNO") or socket.gethostname()
    return f"{hostname}:{os.getpid()}:{os.urandom(6).hex()}"
