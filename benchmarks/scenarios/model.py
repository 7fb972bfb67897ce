"""A scenario: rows of peers under loads, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.figures import Sample
from benchmarks.loads import Load
from benchmarks.methods.throughput import Throughput
from benchmarks.peers.base import Peer, Setup
from benchmarks.site import Site

Method = Callable[[Peer, Setup, Site], Sample]


#: One worker with 20 slots on one queue.
ONE = Setup()
#: Kilobytes of arguments of a job as a Rails app pushes it: ActiveJob's payloads have 0.5 to 5.
REAL_KB = 1


@dataclass(frozen=True)
class Row:
    """One peer under one load. Two equal rows of a round are measured once."""

    label: str
    peer: Peer
    method: Method
    setup: Setup = ONE
    once: bool = False
    """Measured in the first round only: a peer for comparison that neither a goal nor a ratio is about."""


@dataclass(frozen=True)
class Scenario:
    """``metric`` is what its ratios are made of; ``base`` the label of the row that they are made to."""

    name: str
    metric: str
    rows: tuple[Row, ...]
    base: str
    what: str
    """Says the load and the limit: what ends the rate, or makes the cost."""
    family: str
    """Scenarios of one family are measured together: rows that they share only once a round."""
    rounds: int | None = None
    """Rounds at most: long scenarios whose figures are counts or CPU vary little. None: all."""


@dataclass(frozen=True)
class Scale:
    """How long things take: seconds of a throughput, of watching latency, of watching an idle worker."""

    throughput: float = 3.0
    short: float = 2.0
    latency: float = 5.0
    idle: float = 10.0
    pushes: int = 10_000
    backlog: int = 1_000_000

    def times(self, factor: float) -> Scale:
        """Return a scale with everything ``factor`` times as long, except the backlog."""
        return replace(
            self,
            throughput=self.throughput * factor,
            short=self.short * factor,
            latency=self.latency * factor,
            idle=self.idle * factor,
            pushes=max(1, int(self.pushes * factor)),
        )


FULL = Scale()
QUICK = Scale(throughput=1.2, short=1.0, latency=3.0, idle=5.0, pushes=3_000)


def label_of(peer: Peer, setup: Setup) -> str:
    """``Sidekiq 8.1 x 2 -c 20``."""
    processes = f" x {setup.workers}" if setup.workers > 1 else ""
    queues = f", {len(setup.queues)} queues" if len(setup.queues) > 1 else ""
    return f"{peer.name}{processes} -c {setup.concurrency}{queues}"


def row(peer: Peer, method: Method, setup: Setup = ONE, note: str = "", *, once: bool = False) -> Row:
    """A row that is called after its peer."""
    return Row(label_of(peer, setup) + note, peer, method, setup, once)


def rows_of(main: Sequence[Peer], others: Sequence[Peer], method: Method, setup: Setup = ONE) -> list[Row]:
    """The first peer, then the ``others``, which are measured once, then the rest of the ``main`` ones."""
    compared = [row(peer, method, setup, once=True) for peer in others]
    first, *rest = [row(peer, method, setup) for peer in main]
    return [first, *compared, *rest]


def noop(seconds: float, kilobytes: int = 0) -> Throughput:
    """Jobs that do nothing, empty or with arguments of that size."""
    return Throughput(Load("noop", kilobytes=kilobytes), seconds)


def scenario(
    name: str,
    metric: str,
    rows: Sequence[Row],
    what: str,
    *,
    base: str = "",
    family: str = "",
    rounds: int | None = None,
) -> Scenario:
    """A scenario whose base is its first row unless said."""
    return Scenario(name, metric, tuple(rows), base or rows[0].label, what, family or name, rounds)


def names(count: int) -> tuple[str, ...]:
    """Names of that many queues."""
    return ("default",) if count == 1 else tuple(f"q{number}" for number in range(count))
