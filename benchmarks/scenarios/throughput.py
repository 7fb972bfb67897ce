"""Scenarios that count jobs per second."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.cast import Cast
from benchmarks.loads import Load
from benchmarks.methods.throughput import Throughput
from benchmarks.peers.base import Setup
from benchmarks.scenarios.model import REAL_KB, Scale, Scenario, noop, row, rows_of, scenario

PAYLOAD_KB = (1, 10, 100)
#: Shape of arguments -> how its rows are called.
SHAPES = {"records": "", "text": ", one text"}


def throughput(
    cast: Cast, scale: Scale, cpu_ms: Sequence[float], wait_ms: Sequence[float], python_ms: Sequence[float]
) -> list[Scenario]:
    """All of them, in the order of the report."""
    return [
        _native_noop(cast, scale),
        _sidecar_noop(cast, scale),
        _two_workers(cast, scale),
        _payload(cast, scale),
        _two_workers_payload(cast, scale),
        *(_large_payload(cast, scale, size) for size in PAYLOAD_KB if size > REAL_KB),
        *(_ruby_cpu(cast, scale, size) for size in cpu_ms),
        *(_python_cpu(cast, scale, size) for size in python_ms),
        *(_waiting(cast, scale, size) for size in wait_ms),
        _coroutines(cast, scale),
        _database_write(cast, scale),
        _global_id(cast, scale),
        _failing(cast, scale),
        _promotion(cast, scale),
    ]


def _native_noop(cast: Cast, scale: Scale) -> Scenario:
    load = noop(scale.throughput)
    rows = rows_of((cast.base, cast.celery, cast.native), cast.older, load)
    rows.insert(-1, row(cast.celery_prefork, load, Setup(concurrency=4), once=True))
    what = (
        "Empty jobs that do nothing; the bridge and Celery run them in Python, Sidekiq in Ruby. "
        "Limit: one process on one core."
    )
    return scenario("native no-op", "jobs_per_second", rows, what, family="no-op")


def _sidecar_noop(cast: Cast, scale: Scale) -> Scenario:
    others = (*cast.older, cast.naive, *cast.bridges[:-1])
    rows = rows_of((cast.base, cast.bridge), others, noop(scale.throughput))
    what = (
        "Empty jobs that do nothing, in Ruby everywhere: through the sidecar by both bridges. "
        "Limit: one core for Sidekiq; both cores for the bridge, whose worker and Puma workers share them."
    )
    return scenario("sidecar no-op", "jobs_per_second", rows, what, family="no-op")


def _two_workers(cast: Cast, scale: Scale) -> Scenario:
    load, two = noop(scale.throughput), Setup(workers=2)
    rows = [row(cast.base, load)]
    rows += [row(peer, load, two) for peer in (cast.base, cast.native, cast.bridge)]
    what = (
        "Empty jobs and two processes of the same command; the base is one Sidekiq process. "
        "Limit: two cores, which Redis and the sidecar share with the workers."
    )
    return scenario("two workers", "jobs_per_second", rows, what, family="no-op")


def _payload(cast: Cast, scale: Scale) -> Scenario:
    load = noop(scale.throughput, REAL_KB)
    others = (*cast.older, cast.celery, cast.naive)
    rows = rows_of((cast.base, cast.native, cast.bridge), others, load)
    text = Throughput(Load("noop", kilobytes=REAL_KB, shape="text"), scale.short)
    rows += [
        row(peer, text, note=SHAPES["text"], once=True) for peer in (cast.base, cast.native, cast.bridge)
    ]
    what = (
        f"No-op jobs with {REAL_KB} KB of arguments, as a Rails app pushes them: records of a dozen short "
        "fields, or one long text. Limit: as of empty jobs, and both sides read the arguments."
    )
    return scenario(_of_size(REAL_KB), "jobs_per_second", rows, what, family="payload")


def _two_workers_payload(cast: Cast, scale: Scale) -> Scenario:
    load, two = noop(scale.throughput, REAL_KB), Setup(workers=2)
    rows = [row(cast.base, load)]
    rows += [row(peer, load, two) for peer in (cast.base, cast.native, cast.bridge)]
    what = (
        f"No-op jobs with {REAL_KB} KB of arguments and two processes of the same command; the base is one "
        "Sidekiq process. Limit: two cores, which Redis and the sidecar share with the workers."
    )
    return scenario(f"two workers, {_of_size(REAL_KB)}", "jobs_per_second", rows, what, family="payload")


def _large_payload(cast: Cast, scale: Scale, kilobytes: int) -> Scenario:
    rows = [
        row(
            peer,
            Throughput(Load("noop", kilobytes=kilobytes, shape=shape), scale.short),
            note=note,
            once=bool(note),
        )
        for shape, note in SHAPES.items()
        for peer in (cast.base, cast.native, cast.bridge)
    ]
    what = (
        f"No-op jobs with {kilobytes} KB of arguments: records of a dozen short fields, or one long text. "
        "Limit: the parsers, and Redis' Lua, which makes one text of each payload."
    )
    return scenario(_of_size(kilobytes), "jobs_per_second", rows, what)


def _of_size(kilobytes: int) -> str:
    return f"{kilobytes} KB of arguments"


def _ruby_cpu(cast: Cast, scale: Scale, size: float) -> Scenario:
    method = Throughput(Load("cpu", size, kilobytes=REAL_KB), scale.short)
    rows = rows_of((cast.base, cast.bridge), (cast.naive,), method)
    rows.insert(1, row(cast.base, method, Setup(workers=2)))
    what = (
        "Jobs that compute in Ruby; the bridge with one worker and two Puma workers. Limit: one core for a "
        "Sidekiq process, all cores for two of them and for the bridge: see the cores that are busy."
    )
    rounds = None if size == 5 else 1  # the size of the goal
    return scenario(f"{size:g} ms Ruby CPU", "jobs_per_second", rows, what, rounds=rounds)


def _python_cpu(cast: Cast, scale: Scale, size: float) -> Scenario:
    # Long enough that the jobs that still run at the end, one for each slot, are few.
    method = Throughput(Load("cpu", size, kilobytes=REAL_KB), scale.throughput * 1.5)
    two, four = Setup(concurrency=2), Setup(concurrency=4)
    rows = [row(cast.celery_prefork, method, slots) for slots in (two, four)]
    rows += [row(cast.native, method), row(cast.up, method, Setup(workers=2))]
    rows += [row(cast.native_prefork, method, slots) for slots in (two, four)]
    what = (
        "Jobs that compute in Python; the base is stock Celery's prefork with two processes. Limit: one "
        "core for each Python process, so the default pool of one worker uses one; two for the rest."
    )
    return scenario(f"{size:g} ms Python CPU", "jobs_per_second", rows, what)


def _waiting(cast: Cast, scale: Scale, size: float) -> Scenario:
    method = Throughput(Load("wait", size, kilobytes=REAL_KB), scale.short)
    rows = rows_of((cast.base, cast.native, cast.bridge), (cast.celery, cast.naive), method)
    what = (
        "Jobs that sleep. Limit: 20 slots everywhere, so 20 jobs for each sleep, and the time in which a "
        "slot is empty between two jobs."
    )
    rounds = None if size == 10 else 1  # the size of the goal
    return scenario(f"{size:g} ms waiting", "jobs_per_second", rows, what, rounds=rounds)


def _coroutines(cast: Cast, scale: Scale) -> Scenario:
    many, native = Setup(concurrency=100), cast.native
    loads = {"wait": 100, "await": 100, "noop": 0, "coroutine": 0}
    words = (", 100 ms in threads", ", 100 ms in coroutines", ", no-op in threads", ", no-op in coroutines")
    rows = [
        row(native, Throughput(Load(kind, size), scale.short), many, note)
        for (kind, size), note in zip(loads.items(), words, strict=True)
    ]
    what = (
        "Native tasks as plain functions and as coroutines, with 100 slots. Limit: the slots for those that "
        "wait, one core for the others."
    )
    return scenario("coroutines", "jobs_per_second", rows, what, rounds=1)


def _database_write(cast: Cast, scale: Scale) -> Scenario:
    method, rails = Throughput(Load("write", kilobytes=REAL_KB), scale.short), Setup(rails=True)
    rows = rows_of((cast.base, cast.bridge), cast.older, method, rails)
    what = (
        f"An ActiveJob of the demo's Rails app (production) with {REAL_KB} KB of arguments that inserts a "
        "row into SQLite. Limit: SQLite lets one writer in at a time, and Rails takes milliseconds of CPU."
    )
    return scenario("ActiveJob with a database write", "jobs_per_second", rows, what)


def _global_id(cast: Cast, scale: Scale) -> Scenario:
    method, rails = Throughput(Load("find", kilobytes=REAL_KB), scale.short), Setup(rails=True)
    rows = [row(peer, method, rails) for peer in (cast.base, cast.bridge)]
    what = (
        f"An ActiveJob with a record (GlobalID) and options, {REAL_KB} KB in all, that loads the record from "
        "SQLite. Limit: Rails' CPU, on one core for Sidekiq and on two for the bridge."
    )
    return scenario("ActiveJob with a GlobalID", "jobs_per_second", rows, what)


def _promotion(cast: Cast, scale: Scale) -> Scenario:
    load = Load("noop", kilobytes=REAL_KB, due=True)
    method, setup = Throughput(load, scale.short), Setup(poll_seconds="1")
    rows = [row(peer, method, setup) for peer in (cast.base, cast.native, cast.bridge)]
    what = (
        f"No-op jobs with {REAL_KB} KB of arguments that wait in `schedule` and are due. Sidekiq looks every "
        "second; the clock runs from the first job that leaves. Limit: Sidekiq moves one job with four "
        "commands, the bridge up to 32 KB of them with one script."
    )
    return scenario("promotion", "jobs_per_second", rows, what)


def _failing(cast: Cast, scale: Scale) -> Scenario:
    method = Throughput(Load("fail", kilobytes=REAL_KB), scale.short)
    rows = rows_of((cast.base, cast.native, cast.bridge), cast.older, method)
    what = (
        f"Jobs with {REAL_KB} KB of arguments that raise: each is written into the retry set. Limit: the CPU "
        "that an exception, its backtrace and the new payload take."
    )
    return scenario("failing job", "jobs_per_second", rows, what)
