"""Who this worker is: its name in Redis, and what the Busy page shows of it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from bridge.sidekiq.fetch.queue_set import QueueSet
from bridge.sidekiq.process.rows import ProcessInfo

if TYPE_CHECKING:
    from bridge.runtime import Runtime


def new_identity() -> str:
    """``host:pid:nonce``, as Sidekiq's; never the same twice, also where containers share host and pid."""
    hostname = os.environ.get("DYNO") or socket.gethostname()
    return f"{hostname}:{os.getpid()}:{os.urandom(6).hex()}"


def process_info(runtime: Runtime, c: Any) -> ProcessInfo:
    """What the Busy page shows of this worker."""
    hostname, _, nonce = runtime.lease.identity.rsplit(":", 2)
    return ProcessInfo(
        hostname=hostname,
        pid=os.getpid(),
        nonce=nonce,
        started_at=runtime.started_at,
        queues=QueueSet.of(runtime.fetcher.order.weights.items()),
        concurrency=runtime.fetcher.slots,
        version=runtime.dialect.version,
        tag=runtime.settings.tag,
        labels=runtime.settings.labels,
    )
