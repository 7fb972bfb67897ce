"""The scenarios: who is measured how, and what is compared with what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.cast import Cast
from benchmarks.figures import Sample
from benchmarks.loads import Load
from benchmarks.methods.fleet import Fleet
from benchmarks.methods.idle import Idle
from benchmarks.methods.latency import Latency
from benchmarks.methods.push import Push, python_pusher, ruby_pusher
from benchmarks.methods.startup import Startup
from benchmarks.methods.throughput import Throughput
from benchmarks.peers.base import Peer, Setup
from benchmarks.site import Site

Method = Callable[[Peer, Setup, Site], Sample]


#: One worker with 20 slots on one queue.
ONE = Setup()


@dataclass(frozen=True)
class Row:
    """One peer under one load. Two equal rows of a round are measured once."""

    label: str
    peer: Peer
    method: Method
    setup: Setup = ONE


@dataclass(frozen=True)
class Scenario:
    """``metric`` is what its ratios are made of; ``base`` the label of the row that they are made to."""

    name: str
    metric: str
    rows: tuple[Row, ...]
    base: str
    what: str
    family: str
    """Scenarios of one family are measured together: rows that they share only once a round."""


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


CPU_MS = (1.0, 5.0, 20.0)
WAIT_MS = (10.0, 100.0)
QUEUES = (1, 10, 100, 1000)
PAYLOAD_KB = (1, 10, 100)
CONCURRENCIES = (1, 20, 100)
#: Shape of arguments -> how its rows are called.
SHAPES = {"records": "", "text": ", one text"}
#: Jobs of 10 ms a second that keep half of 20 slots busy.
HALF_LOAD = 1000.0
#: Workers of a fleet, and the jobs a second that all of them get together.
FLEETS = (1, 4, 12)
FLEET_RATE, FLEET_BUSY_RATE = 20.0, 500.0


def scenarios(
    cast: Cast, scale: Scale, cpu_ms: Sequence[float] = CPU_MS, wait_ms: Sequence[float] = WAIT_MS
) -> list[Scenario]:
    """All of them, in the order of the report."""
    return [
        _native_noop(cast, scale),
        _sidecar_noop(cast, scale),
        _two_workers(cast, scale),
        *(_payload(cast, scale, size) for size in PAYLOAD_KB),
        *(_ruby_cpu(cast, scale, size) for size in cpu_ms),
        *(_waiting(cast, scale, size) for size in wait_ms),
        _coroutines(cast, scale),
        _database_write(cast, scale),
        _global_id(cast, scale),
        _failing(cast, scale),
        _promotion(cast, scale),
        _idle_latency(cast, scale),
        _busy_latency(cast, scale),
        *(_fleet(cast, scale, busy=busy) for busy in (False, True)),
        _push(cast, scale),
        _queues(cast, scale),
        _backlog(cast, scale),
        _concurrency(cast, scale),
        _start(cast),
        _idle(cast, scale),
        _memory(cast, scale),
    ]


def label_of(peer: Peer, setup: Setup) -> str:
    """``Sidekiq 8.1 x 2 -c 20``."""
    processes = f" x {setup.workers}" if setup.workers > 1 else ""
    queues = f", {len(setup.queues)} queues" if len(setup.queues) > 1 else ""
    return f"{peer.name}{processes} -c {setup.concurrency}{queues}"


def row(peer: Peer, method: Method, setup: Setup = ONE, note: str = "") -> Row:
    """A row that is called after its peer."""
    return Row(label_of(peer, setup) + note, peer, method, setup)


def _noop(scale: Scale) -> Throughput:
    return Throughput(Load("noop"), scale.throughput)


def _scenario(
    name: str, metric: str, rows: Sequence[Row], what: str, *, base: str = "", family: str = ""
) -> Scenario:
    return Scenario(name, metric, tuple(rows), base or rows[0].label, what, family or name)


def _native_noop(cast: Cast, scale: Scale) -> Scenario:
    noop = _noop(scale)
    rows = [row(peer, noop) for peer in (*cast.sidekiqs, cast.celery, cast.native)]
    rows.insert(-1, row(cast.celery_prefork, noop, Setup(concurrency=4)))
    what = "Jobs that do nothing; the bridge and Celery run them in Python, Sidekiq in Ruby."
    return _scenario("native no-op", "jobs_per_second", rows, what, family="no-op")


def _sidecar_noop(cast: Cast, scale: Scale) -> Scenario:
    rows = [row(peer, _noop(scale)) for peer in (*cast.sidekiqs, cast.naive, *cast.bridges)]
    what = "Jobs that do nothing, in Ruby everywhere: through the sidecar by both bridges."
    return _scenario("sidecar no-op", "jobs_per_second", rows, what, family="no-op")


def _two_workers(cast: Cast, scale: Scale) -> Scenario:
    noop, two = _noop(scale), Setup(workers=2)
    rows = [row(cast.base, noop)]
    rows += [row(peer, noop, two) for peer in (cast.base, cast.native, cast.bridge)]
    what = "Two processes of the same command; the base is one Sidekiq process."
    return _scenario("two workers", "jobs_per_second", rows, what, family="no-op")


def _payload(cast: Cast, scale: Scale, kilobytes: int) -> Scenario:
    rows = [
        row(peer, Throughput(Load("noop", kilobytes=kilobytes, shape=shape), scale.short), note=note)
        for shape, note in SHAPES.items()
        for peer in (cast.base, cast.native, cast.bridge)
    ]
    what = (
        f"No-op jobs with {kilobytes} KB of arguments: records of a dozen short fields, as ActiveJob's and "
        "APIs' are, or one long text."
    )
    return _scenario(f"{kilobytes} KB of arguments", "jobs_per_second", rows, what)


def _ruby_cpu(cast: Cast, scale: Scale, size: float) -> Scenario:
    method = Throughput(Load("cpu", size), scale.short)
    rows = [row(peer, method) for peer in (*cast.sidekiqs, cast.naive, cast.bridge)]
    rows.insert(1, row(cast.base, method, Setup(workers=2)))
    what = "Jobs that compute in Ruby; the bridge with one worker and two Puma workers."
    return _scenario(f"{size:g} ms Ruby CPU", "jobs_per_second", rows, what)


def _waiting(cast: Cast, scale: Scale, size: float) -> Scenario:
    method = Throughput(Load("wait", size), scale.short)
    peers = [*cast.sidekiqs, cast.celery, cast.naive, cast.native, cast.bridge]
    what = "Jobs that sleep: 20 slots everywhere, so slots are the limit."
    return _scenario(f"{size:g} ms waiting", "jobs_per_second", [row(peer, method) for peer in peers], what)


def _coroutines(cast: Cast, scale: Scale) -> Scenario:
    many, native = Setup(concurrency=100), cast.native
    loads = {"wait": 100, "await": 100, "noop": 0, "coroutine": 0}
    words = (", 100 ms in threads", ", 100 ms in coroutines", ", no-op in threads", ", no-op in coroutines")
    rows = [
        row(native, Throughput(Load(kind, size), scale.short), many, note)
        for (kind, size), note in zip(loads.items(), words, strict=True)
    ]
    what = "Native tasks as plain functions and as coroutines, with 100 slots."
    return _scenario("coroutines", "jobs_per_second", rows, what)


def _database_write(cast: Cast, scale: Scale) -> Scenario:
    method, rails = Throughput(Load("write"), scale.short), Setup(rails=True)
    rows = [row(peer, method, rails) for peer in (*cast.sidekiqs, cast.bridge)]
    what = "An ActiveJob of the demo's Rails app (production) that inserts a row into SQLite."
    return _scenario("ActiveJob with a database write", "jobs_per_second", rows, what)


def _global_id(cast: Cast, scale: Scale) -> Scenario:
    method, rails = Throughput(Load("find", kilobytes=1), scale.short), Setup(rails=True)
    rows = [row(peer, method, rails) for peer in (cast.base, cast.bridge)]
    what = (
        "An ActiveJob with a record (GlobalID) and options, 1 KB in all, that loads the record from SQLite."
    )
    return _scenario("ActiveJob with a GlobalID", "jobs_per_second", rows, what)


def _promotion(cast: Cast, scale: Scale) -> Scenario:
    method, setup = Throughput(Load("noop", kilobytes=1, due=True), scale.short), Setup(poll_seconds="1")
    rows = [row(peer, method, setup) for peer in (cast.base, cast.native, cast.bridge)]
    what = (
        "No-op jobs with 1 KB of arguments that wait in `schedule` and are due. Sidekiq looks every second; "
        "the clock runs from the first job that leaves."
    )
    return _scenario("promotion", "jobs_per_second", rows, what)


def _failing(cast: Cast, scale: Scale) -> Scenario:
    method = Throughput(Load("fail"), scale.short)
    peers = [*cast.sidekiqs, cast.native, cast.bridge]
    what = "Jobs that raise: each is written into the retry set."
    return _scenario("failing job", "jobs_per_second", [row(peer, method) for peer in peers], what)


def _idle_latency(cast: Cast, scale: Scale) -> Scenario:
    method = Latency(50, 0, scale.latency)
    peers = [*cast.sidekiqs, cast.celery, cast.native, cast.bridge]
    what = "From push to start: single jobs at random moments, 50 a second."
    return _scenario("latency, idle", "p50_ms", [row(peer, method) for peer in peers], what)


def _busy_latency(cast: Cast, scale: Scale) -> Scenario:
    method = Latency(HALF_LOAD, 10, scale.latency)
    peers = [*cast.sidekiqs, cast.celery, cast.native, cast.bridge]
    what = (
        "From push to start while half of the slots are busy: jobs of 10 ms, 1,000 a second at random "
        "moments (stock Celery: 300 a second, half of what it can do)."
    )
    return _scenario("latency, 50 % load", "p50_ms", [row(peer, method) for peer in peers], what)


def _fleet(cast: Cast, scale: Scale, *, busy: bool) -> Scenario:
    method = Fleet(scale.latency, FLEET_BUSY_RATE if busy else FLEET_RATE)
    peers = (cast.base, cast.native, cast.bridge)
    rows = [row(peer, method, Setup(workers=size)) for peer in peers for size in FLEETS]
    what = (
        f"No-op jobs, {method.rate:g} a second at random moments, for fleets of several sizes: what a pushed "
        "job costs Redis and all processes together, beyond what the same fleet costs without jobs."
    )
    name = "fleet, busy" if busy else "fleet, idle"
    return _scenario(name, "commands_per_job", rows, what)


def _push(cast: Cast, scale: Scale) -> Scenario:
    pushers = [
        ruby_pusher(cast.base.root),
        python_pusher("Celery apply_async", "celery", "celery"),
        python_pusher("bridge send_task (Python)", "bridge", "queue:default"),
    ]
    rows = [Row(pusher.name, pusher, Push(scale.pushes)) for pusher in pushers]
    what = "Pushes of one process, one round trip each."
    return _scenario("push", "pushes_per_second", rows, what)


def _queues(cast: Cast, scale: Scale) -> Scenario:
    method = Throughput(Load("noop"), scale.short)
    peers = (cast.base, cast.native, cast.bridge)
    rows = [row(peer, method, Setup(queues=_names(count))) for peer in peers for count in QUEUES]
    what = "No-op jobs spread evenly over the queues, in strict order; cost is CPU of the peer and of Redis."
    return _scenario("queues", "cost_us_per_job", rows, what, family="scale")


def _names(count: int) -> tuple[str, ...]:
    return ("default",) if count == 1 else tuple(f"q{number}" for number in range(count))


def _backlog(cast: Cast, scale: Scale) -> Scenario:
    few = Throughput(Load("noop", batches=max(1, int(scale.throughput * 5))), scale.short)
    many = Throughput(Load("noop", backlog=scale.backlog), scale.short)
    peers = (cast.base, cast.native, cast.bridge)
    notes = ((few, ", 1,000 waiting"), (many, f", {scale.backlog:,} waiting"))
    rows = [row(peer, method, note=note) for peer in peers for method, note in notes]
    what = "No-op jobs while 1,000 or a million wait; cost is CPU of the peer and of Redis."
    return _scenario("backlog", "cost_us_per_job", rows, what)


def _concurrency(cast: Cast, scale: Scale) -> Scenario:
    method = Throughput(Load("noop"), scale.short)
    peers = (cast.base, cast.native, cast.bridge)
    rows = [row(peer, method, Setup(concurrency=slots)) for slots in CONCURRENCIES for peer in peers]
    base = label_of(cast.base, Setup())
    what = "No-op jobs with 1, 20 and 100 slots."
    return _scenario("concurrency", "jobs_per_second", rows, what, base=base, family="scale")


def _start(cast: Cast) -> Scenario:
    peers = [*cast.sidekiqs, cast.celery, cast.native, cast.bridge]
    what = "From the start of the processes (worker and sidecar at once) to the start of the first job."
    rows = [row(peer, Startup()) for peer in peers]
    return _scenario("start to first job", "first_job_seconds", rows, what)


def _idle(cast: Cast, scale: Scale) -> Scenario:
    peers = [cast.base, cast.native, cast.bridge]
    setups = [Setup(queues=_names(count)) for count in (1, 100)]
    rows = [row(peer, Idle(scale.idle), setup) for setup in setups for peer in peers]
    rows.append(row(cast.celery, Idle(scale.idle)))
    what = "A worker without work: Redis commands (those inside scripts too) and CPU."
    return _scenario("idle", "commands_per_second", rows, what)


def _memory(cast: Cast, scale: Scale) -> Scenario:
    method = Throughput(Load("cpu", 5), scale.short)
    rows = [
        row(cast.base, method, Setup(concurrency=10, workers=2, rails=True)),
        row(cast.bridge, method, Setup(rails=True)),
    ]
    what = (
        "The demo's Rails app under jobs of 5 ms CPU on two cores: worker and two Puma workers "
        "beside two Sidekiq processes; peak PSS of all processes together."
    )
    return _scenario("memory", "pss_mb", rows, what)
