"""From the start of the processes to the start of the first job, which waits in the queue already."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.peers.base import Peer, Setup
from benchmarks.processes import wait_until
from benchmarks.site import Site

LIMIT_SECONDS = 60.0
NS_PER_SECOND = 1e9


@dataclass(frozen=True)
class Startup:
    """All processes of the peer are started at once."""

    def __call__(self, peer: Peer, setup: Setup, site: Site) -> dict[str, float]:
        """One measurement."""
        key, text = peer.probe((time.monotonic_ns(), 0), f"{1:024x}")
        site.server.lpush(key, text)
        with peer.starting(site, setup):
            wait_until(site.probes, LIMIT_SECONDS, f"the first job of {peer.name}")
        return {"first_job_seconds": site.probes()[0] / NS_PER_SECOND}
