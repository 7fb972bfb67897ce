"""The peers of a run, by the part that they play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.bridge import Bridge, BridgeUp, Tuning
from benchmarks.peers.crowd import Crowd
from benchmarks.peers.naive import NaiveBridge
from benchmarks.peers.sidekiq import Sidekiq
from benchmarks.peers.stock import StockCelery
from benchmarks.roots import RubyRoot

NATIVE = "bridge, native"
SIDECAR = "bridge, 2 Puma"
NATIVE_PREFORK = "bridge, native, prefork"
UP = "bridge up, native"
CELERY_PREFORK = "Celery, prefork"


@dataclass(frozen=True)
class Cast:
    """``sidekiqs`` begins with the newest, which is the base of the ratios."""

    sidekiqs: tuple[Sidekiq, ...]
    celery: StockCelery
    celery_prefork: StockCelery
    naive: NaiveBridge
    native: Bridge
    native_prefork: Bridge
    up: BridgeUp
    crowds: tuple[Crowd, Crowd]
    """Simulated workers, Sidekiq's first."""
    bridges: tuple[Bridge, ...]
    """The bridge with sidecars of different kinds; the last is the one of the goals."""

    @property
    def base(self) -> Sidekiq:
        """The newest Sidekiq."""
        return self.sidekiqs[0]

    @property
    def older(self) -> tuple[Sidekiq, ...]:
        """The other Sidekiqs."""
        return self.sidekiqs[1:]

    @property
    def bridge(self) -> Bridge:
        """One worker, and a sidecar with two Puma workers on the Ruby of the newest Sidekiq."""
        return self.bridges[-1]


def new_cast(roots: Sequence[RubyRoot], tuning: Tuning) -> Cast:
    """``roots`` begins with the oldest Sidekiq; the sidecar runs where the newest is."""
    newest, oldest = roots[-1], roots[0]
    bridges = [Bridge("bridge, 1 Puma", newest, 1, tuning), Bridge(SIDECAR, newest, 2, tuning)]
    if oldest != newest:
        bridges.insert(0, Bridge(f"bridge, 2 Puma, Ruby {oldest.ruby[:3]}", oldest, 2, tuning))
    return Cast(
        sidekiqs=tuple(Sidekiq(root) for root in reversed(roots)),
        celery=StockCelery("Celery, threads", "threads"),
        celery_prefork=StockCelery(CELERY_PREFORK, "prefork"),
        naive=NaiveBridge(newest),
        native=Bridge(NATIVE, None, 0, tuning),
        native_prefork=Bridge(NATIVE_PREFORK, None, 0, tuning, "prefork"),
        up=BridgeUp(UP, None, 0, tuning),
        crowds=(Crowd("Sidekiq 8.1, simulated", "sidekiq"), Crowd("bridge, simulated", "bridge")),
        bridges=tuple(bridges),
    )
