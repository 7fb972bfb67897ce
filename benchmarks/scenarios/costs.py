"""Scenarios about what jobs, queues and idle workers cost."""

from __future__ import annotations

from benchmarks.cast import Cast
from benchmarks.loads import Load
from benchmarks.methods.idle import Idle
from benchmarks.methods.throughput import Throughput
from benchmarks.peers.base import Setup
from benchmarks.scenarios.model import REAL_KB, Scale, Scenario, label_of, names, noop, row, scenario

QUEUES = (1, 10, 100, 1000)
CONCURRENCIES = (1, 20, 100)


def queues(cast: Cast, scale: Scale) -> Scenario:
    """One queue to a thousand."""
    method = noop(scale.short, REAL_KB)
    peers = (cast.base, cast.native, cast.bridge)
    rows = [row(peer, method, Setup(queues=names(count))) for peer in peers for count in QUEUES]
    what = (
        f"No-op jobs with {REAL_KB} KB of arguments spread evenly over the queues, in strict order; cost is "
        "CPU of the peer and of Redis. Limit: Sidekiq sends the names of all queues for each job, the bridge "
        "for each batch."
    )
    return scenario("queues", "cost_us_per_job", rows, what, family="scale", rounds=1)


def backlog(cast: Cast, scale: Scale) -> Scenario:
    """A thousand waiting jobs and a million."""
    few = Throughput(Load("noop", batches=max(1, int(scale.throughput * 5)), kilobytes=REAL_KB), scale.short)
    many = Throughput(Load("noop", backlog=scale.backlog, kilobytes=REAL_KB), scale.short)
    peers = (cast.base, cast.native, cast.bridge)
    notes = ((few, ", 1,000 waiting"), (many, f", {scale.backlog:,} waiting"))
    rows = [row(peer, method, note=note) for peer in peers for method, note in notes]
    what = (
        f"No-op jobs with {REAL_KB} KB of arguments while 1,000 or a million wait; cost is CPU of the peer "
        "and of Redis. Limit: none by design, for every peer takes from the end of a list."
    )
    return scenario("backlog", "cost_us_per_job", rows, what, rounds=1)


def concurrency(cast: Cast, scale: Scale) -> Scenario:
    """1, 20 and 100 slots."""
    method = noop(scale.short, REAL_KB)
    peers = (cast.base, cast.native, cast.bridge)
    rows = [row(peer, method, Setup(concurrency=slots)) for slots in CONCURRENCIES for peer in peers]
    base = label_of(cast.base, Setup())
    what = (
        f"No-op jobs with {REAL_KB} KB of arguments and 1, 20 and 100 slots. Limit: with one slot a round "
        "trip for each job, which a batch of many slots shares."
    )
    return scenario("concurrency", "jobs_per_second", rows, what, base=base, family="scale", rounds=1)


def idle(cast: Cast, scale: Scale) -> Scenario:
    """Workers without work."""
    peers = [cast.base, cast.native, cast.bridge]
    setups = [Setup(queues=names(count)) for count in (1, 100)]
    rows = [row(peer, Idle(scale.idle), setup) for setup in setups for peer in peers]
    rows.append(row(cast.celery, Idle(scale.idle)))
    what = (
        "A worker without work: Redis commands (those inside scripts too) and CPU. Limit: heartbeat, lease "
        "and watches, whatever the number of slots; a Sidekiq process asks with each of its slots every 2 s."
    )
    return scenario("idle", "commands_per_second", rows, what, rounds=1)


def memory(cast: Cast, scale: Scale) -> Scenario:
    """Worker and Puma workers beside Sidekiq processes."""
    method = Throughput(Load("cpu", 5, kilobytes=REAL_KB), scale.short)
    rows = [
        row(cast.base, method, Setup(concurrency=10, workers=2, rails=True)),
        row(cast.bridge, method, Setup(rails=True)),
    ]
    what = (
        "The demo's Rails app under jobs of 5 ms CPU on two cores: worker and two Puma workers "
        "beside two Sidekiq processes; peak PSS of all processes together. Limit: Rails in each Ruby "
        "process, Celery in each worker."
    )
    return scenario("memory", "pss_mb", rows, what)
