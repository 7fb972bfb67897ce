"""A worker without Celery: store, lease and fetcher as the runtime puts them together."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from types import SimpleNamespace
from typing import Any

import redis

from bridge.broker.poller import Poller
from bridge.event_loop import EventLoop
from bridge.redis.client import RedisAddress, connect
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.listeners import JobListeners
from bridge.sidekiq.fetch.queues import QueueOrder
from bridge.sidekiq.fetch.take import Take
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.lease.reaper import Reaper
from bridge.sidekiq.outcome.decision import Decision, Done
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.settlement import Settled
from bridge.sidekiq.store.store import RedisStore
from tests.support import redis_users

_jids = itertools.count(1)

#: Redis TIME in which leases may be judged: at any time.
ALWAYS = (0.0, 9e15)


def connect_to(port: int, database: int = 0, timeout_seconds: float = 2.0) -> redis.Redis:
    """A client as the worker makes them, with an administrator's rights."""
    return connect(RedisAddress(port=port, database=database, timeout_seconds=timeout_seconds))


def as_bridge(client: redis.Redis) -> redis.Redis:
    """This client; or one like it as the user that was chosen for the bridge."""
    if not redis_users.CHOSEN:
        return client
    options = client.connection_pool.connection_kwargs
    return connect(
        RedisAddress(
            port=options["port"],
            database=options.get("db", 0),
            username=redis_users.CHOSEN,
            password=redis_users.PASSWORD,
            timeout_seconds=options.get("socket_timeout") or 5.0,
        )
    )


def job(**fields: Any) -> bytes:
    """A payload with a jid of its own."""
    return json.dumps({"class": "HardJob", "args": [], "jid": f"jid{next(_jids)}", **fields}).encode()


def push(client: redis.Redis, queue: str, *payloads: bytes) -> None:
    """LPUSH, as Sidekiq's client does."""
    client.sadd("queues", queue)
    for payload in payloads:
        client.lpush(f"queue:{queue}", payload)


def next_first(client: redis.Redis, queue: str = "default") -> list[bytes]:
    """The jobs of a queue, the one that runs next first."""
    found: list[bytes] = client.lrange(f"queue:{queue}", 0, -1)
    return found[::-1]


def teach(client: redis.Redis) -> None:
    """Load all scripts, so that the first call of one is carried out at once."""
    for file in resources.files(lua).iterdir():
        if file.name.endswith(".lua"):
            client.script_load(lua.load(file.name.removesuffix(".lua")).text)


@dataclass
class OpenGate:
    """Everything may be taken, or only jobs of classes that start with "Native"; ``most`` at once."""

    open: bool = True
    most: int | None = None
    restricts = True

    def admits(self, job: SidekiqJob) -> bool:
        return str(job.job_class).startswith("Native")

    def limit(self) -> int | None:
        return self.most if self.open else 0

    def settled(self, decided: object) -> None:
        pass


def serve(client: redis.Redis, take: Take) -> bytes | None:
    """What Redis does for a watch: one move, which it refuses once the list is closed."""
    try:
        return client.lmove(f"queue:{take.queue}", take.home.key, "RIGHT", "LEFT")  # type: ignore[return-value]
    except redis.ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return None


class Worker:
    """One worker process, as far as Redis can tell."""

    def __init__(
        self,
        name: str,
        port: int,
        database: int = 0,
        *,
        queues: Sequence[str] = ("default",),
        weights: dict[str, int] | None = None,
        slots: int = 4,
        lease_seconds: float = 15.0,
        timeout_seconds: float = 2.0,
    ) -> None:
        self.now = 1000.0
        self._names = (f"{name}:{n:012x}" for n in itertools.count(1))
        self.client = connect_to(port, database, timeout_seconds)
        self.store = RedisStore(as_bridge(self.client))
        self.lease = Lease(self.store, lambda: next(self._names), lease_seconds, clock=lambda: self.now)
        self.gate = OpenGate()
        self.outcomes: list[tuple[str | None, Decision, Settled]] = []
        listeners = JobListeners()
        listeners.settled.append(self._settled)
        self.fetcher = Fetcher(self.store, self.lease, self.gate, listeners=listeners, slots=slots)
        self.fetcher.attach(self)
        self.reaper = Reaper(self.store, self.lease, compare=self.fetcher.reconciler.compare)
        for queue in queues:
            self.fetcher.order.add(queue, (weights or {}).get(queue, 0))

    def _settled(self, unit: UnitOfWork, decision: Decision, outcome: Settled) -> None:
        self.outcomes.append((unit.job.jid, decision, outcome))

    @property
    def order(self) -> QueueOrder:
        return self.fetcher.order

    @property
    def identity(self) -> str:
        return self.lease.identity

    @property
    def inflight_key(self) -> str:
        return f"bridge:inflight:{self.identity}"

    ticks = 0

    def settled(self) -> None:
        """Its loop looks at each turn."""

    def wake(self) -> None:
        """The fetcher has something to do: this worker turns by itself."""

    interrupt = wake

    def use(self, store: Any) -> Any:
        """Put this in the place of the store, in every part that asks it. Returns it."""
        fetcher = self.fetcher
        for part in (
            fetcher,
            fetcher.in_flight,
            fetcher.reconciler,
            fetcher.native_only,
            fetcher.arrivals,
        ):
            part._store = store
        return store

    def take(self, seen_tail: tuple[str, bytes] | None = None) -> list[UnitOfWork]:
        """Jobs for the free slots, each at once started. ``seen_tail``: what a watch has told of."""
        units = list(self.fetcher.turn(seen_tail=seen_tail).units)
        for unit in units:
            self.fetcher.in_flight.started(unit.delivery.token, 1.0)
        return units

    def open_watch(self, queue: str = "default") -> Take:
        """A watch that takes, as it is before Redis answers. Its connection is not opened: see ``serve``."""
        take = self.fetcher.arrivals.open(self.client, queue)
        assert take is not None
        take.is_marked = False
        return take

    def arrive(self, take: Take, payload: bytes) -> list[UnitOfWork]:
        """The answer of Redis to a watch: the job, at once started."""
        units = list(self.fetcher.arrivals.admit(take, payload))
        for unit in units:
            self.fetcher.in_flight.started(unit.delivery.token, 1.0)
        return units

    def settle(self, unit: UnitOfWork, decision: Decision | None = None) -> None:
        """Decide, settle and write."""
        self.fetcher.settle(unit.delivery.token, decision or Done())
        self.fetcher.turn(claim=False)

    def close(self) -> None:
        self.client.close()
        self.store.client.close()


def ready(worker: Worker) -> Worker:
    """The worker, with a lease, and with a sidecar that takes its Ruby jobs."""
    worker.gate.restricts = False
    worker.lease.register()
    return worker


def attending_poller(
    worker: Worker,
    event_loop: EventLoop,
    poll_seconds: float,
    deliver: Callable[[UnitOfWork], Any],
    *,
    dispatches: bool = False,
) -> Poller:
    """The poller of a consumer without limits. ``dispatches``: whether the pool begins a job at once."""
    context: Any = SimpleNamespace(
        poll_seconds=poll_seconds, has_limits=False, fast_dispatch=lambda *_: dispatches
    )
    poller = Poller(context, worker.fetcher, event_loop, worker.client, None, deliver)
    poller.attend()
    return poller
