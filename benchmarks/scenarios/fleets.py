"""Scenarios about fleets: what a pushed job costs all of them together."""

from __future__ import annotations

from benchmarks.cast import Cast
from benchmarks.methods.fleet import Fleet
from benchmarks.peers.base import Peer, Setup
from benchmarks.scenarios.model import REAL_KB, Scale, Scenario, row, scenario

#: Workers of a fleet. Those with a sidecar cost as many commands as those without: fewer sizes are enough.
SIZES = (1, 2, 4, 8, 12, 16)
SIDECAR_SIZES = (1, 4, 12)
#: Simulated workers that share one Redis, and the jobs a second that they get together.
CROWD, CROWD_CALM_RATE, CROWD_BUSY_RATE = 200, 200.0, 2000.0
#: Jobs a second that all workers get together: most workers are idle, or half of one is busy.
CALM_RATE, BUSY_RATE = 20.0, 500.0


def fleet(cast: Cast, scale: Scale) -> Scenario:
    """Real workers."""
    method = Fleet(
        idle=scale.idle, busy=scale.latency, calm_rate=CALM_RATE, busy_rate=BUSY_RATE, kilobytes=REAL_KB
    )
    sizes: list[tuple[Peer, tuple[int, ...]]] = [
        (cast.base, SIZES),
        (cast.native, SIZES),
        (cast.bridge, SIDECAR_SIZES),
    ]
    rows = [row(peer, method, Setup(workers=size)) for peer, all_sizes in sizes for size in all_sizes]
    what = (
        f"No-op jobs with {REAL_KB} KB of arguments for fleets of several sizes, {CALM_RATE:g} a second at "
        f"random moments, then {BUSY_RATE:g}: what a pushed job costs Redis and all processes, beyond what "
        "the same fleet costs without jobs. An idle Sidekiq slot asks every two seconds, and a job takes the "
        "place of a question: so the net cost falls with the size of the fleet. Limit: a push wakes one "
        "worker, whatever their number; two cores are too few for the rates of large fleets."
    )
    return scenario("fleet", "commands_per_job", rows, what, rounds=1)


def crowd(cast: Cast, scale: Scale) -> Scenario:
    """Shows how many jobs one Redis carries."""
    pushed = Fleet(
        idle=scale.idle,
        busy=scale.latency,
        calm_rate=CROWD_CALM_RATE,
        busy_rate=CROWD_BUSY_RATE,
        kilobytes=REAL_KB,
    )
    setup = Setup(workers=CROWD)
    rows = [row(peer, pushed, setup) for peer in cast.crowds]
    what = (
        f"{CROWD} simulated workers on one Redis: a light client sends the commands of real ones, and jobs "
        f"with {REAL_KB} KB of arguments, {CROWD_BUSY_RATE:,.0f} a second at random moments, end at once. "
        "Limit: Redis' one core. `jobs/s of one Redis core` is 1 s / (Redis' CPU of a job), less the share "
        "of the idle fleet: a quotient, because machine and client reach lower rates. That CPU includes the "
        "push."
    )
    return scenario(f"one Redis, {CROWD} workers", "redis_us_per_job", rows, what, rounds=1)
