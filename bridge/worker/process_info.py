"""This worker's row of the Busy page."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bridge.monitoring import native_names
from bridge.sidekiq.process.rows import ProcessInfo

if TYPE_CHECKING:
    from bridge.runtime import Runtime


def process_info(runtime: Runtime) -> ProcessInfo:
    """This worker's row of the Busy page."""
    native = native_names.native(runtime.app)
    hostname, _, nonce = runtime.lease.identity.rsplit(":", 2)
    return ProcessInfo(
        hostname=hostname,
        pid=os.getpid(),
        nonce=nonce,
        started_at=runtime.started_at,
        queues=runtime.fetcher.order.queues,
        concurrency=runtime.fetcher.in_flight.size,
        version=runtime.dialect.version,
        tag=runtime.settings.tag,
        labels=runtime.settings.labels,
        python=tuple(native),
        shadow_safe=tuple(name for name in native if getattr(runtime.app.tasks[name], "shadow_safe", False)),
    )
