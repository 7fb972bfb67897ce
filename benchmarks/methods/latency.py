"""From push to start, in a worker that is idle or half busy: p50 and p99.

Each job carries the monotonic time of its push; the job itself writes down how long that is ago. Pushes come
at random moments, each with a round trip of its own, and never wait for a job.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.arguments import arguments
from benchmarks.figures import percentile
from benchmarks.peers.base import Peer, Setup
from benchmarks.peers.stock import StockCelery
from benchmarks.processes import BenchmarkFailed, wait_until
from benchmarks.site import Site

WARM_UP_PROBES = 40
WARM_UP_RATE = 50.0
DRAIN_SECONDS = 60.0
NS_PER_MS = 1e6


@dataclass(frozen=True)
class Latency:
    """``rate`` jobs per second arrive for ``seconds``; each waits ``milliseconds`` after it has started."""

    rate: float
    milliseconds: int
    seconds: float
    seed: int = 1
    kilobytes: int = 0
    """Of further arguments, as JSON."""

    def __call__(self, peer: Peer, setup: Setup, site: Site) -> dict[str, float]:
        """One measurement. Raises BenchmarkFailed when a probe was not run."""
        chance = random.Random(self.seed)
        with peer.started(site, setup):
            push = _Pusher(peer, site, (self.milliseconds, *self._payload()))
            push.at_random(WARM_UP_PROBES, WARM_UP_RATE, chance)
            site.probe_file.write_bytes(b"")
            count = int(self._rate(peer) * self.seconds)
            push.at_random(count, self._rate(peer), chance)
        return _figures(site.probes(), count)

    def _payload(self) -> tuple[Any, ...]:
        return arguments("records", self.kilobytes * 1000) if self.kilobytes else ()

    def _rate(self, peer: Peer) -> float:
        # Stock Celery cannot reach the rate that keeps half of 20 slots busy for the others.
        return min(self.rate, peer.noop_rate / 2) if isinstance(peer, StockCelery) else self.rate


class _Pusher:
    def __init__(self, peer: Peer, site: Site, arguments: tuple[Any, ...]) -> None:
        self._peer = peer
        self._site = site
        self._arguments = arguments
        self._number = 0

    def at_random(self, count: int, rate: float, chance: random.Random) -> None:
        """Push ``count`` jobs at random moments, and wait until all have started."""
        before = len(self._site.probes())
        due = time.monotonic()
        for _ in range(count):
            due += chance.expovariate(rate)
            time.sleep(max(0.0, due - time.monotonic()))
            self._push()
        what = f"{count} probes of {self._peer.name}"
        wait_until(lambda: len(self._site.probes()) >= before + count, DRAIN_SECONDS, what, 0.05)

    def _push(self) -> None:
        self._number += 1
        key, text = self._peer.probe((time.monotonic_ns(), *self._arguments), f"{self._number:024x}")
        self._site.server.lpush(key, text)


def _figures(probes: list[int], count: int) -> dict[str, float]:
    if len(probes) != count:
        raise BenchmarkFailed(f"{count} probes pushed, {len(probes)} started")
    values = [probe / NS_PER_MS for probe in probes]
    return {
        "jobs": float(count),
        "p50_ms": percentile(values, 50),
        "p99_ms": percentile(values, 99),
        "max_ms": max(values),
    }
