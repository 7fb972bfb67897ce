"""The collaborators that the application gives to the transport, instead of settings and globals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from bridge import errors
from bridge.broker import collected, ruby_push
from bridge.broker.messages import Push
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.retry import RetryRules
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.process.push_counts import Pushes
from bridge.sidekiq.store.store import RedisStore

#: Begins a job without a message of Celery's; False where Celery must. The last: a deputy asks.
FastDispatch = Callable[[UnitOfWork, Any, bool], bool]

Units = tuple[UnitOfWork, ...]

#: Key of the context in Celery's ``broker_transport_options``.
OPTION = "bridge"


@dataclass(eq=False)
class BrokerContext:
    """The transport's collaborators.

    ``client`` makes a new Redis client, ``route`` names the Celery task for a job, ``rules`` are those of
    the Sidekiq it works beside, and say in which unit new payloads carry their times, ``fetcher`` is the
    process-wide holder of jobs (made when the first job queue is consumed).
    """

    name: str
    database: int
    client: Callable[[], redis.Redis]
    store: Callable[[], RedisStore]
    route: Callable[[SidekiqJob, int], str]
    """Of a job that was orphaned this often."""
    rules: Callable[[], RetryRules]
    fetcher: Callable[[], Fetcher]
    ruby_client: ruby_push.RubyClient
    """Pushes through the Rails app."""
    admit: Callable[[Units], Units] = lambda units: units
    """Those of the claimed jobs that may run now. The others have left this process. Raises StoreError."""
    has_limits: bool = False
    """Whether limits are declared. Without them only a job that brings a limit along is admitted so."""
    weights: Mapping[str, int] = field(default_factory=dict)
    ahead: set[str] = field(default_factory=set)
    """Queues that come before all others in strict order."""
    poll_seconds: float = 1.0
    show_args: bool = False
    allow_purge: Callable[[str], bool] = lambda _: False
    """Whether this queue was asked to be emptied, by its name."""
    pushes: Pushes = field(default_factory=Pushes)
    refusal: type[Exception] = errors.PushRefused
    """The error of a refused purge; a command line prints it as one sentence."""
    note_queued: Callable[[Sequence[tuple[str, str, float | None]]], object] = lambda jobs: None
    """Told of tracked jobs before their push: jid, class, and the time of a scheduled one."""
    version: str = "N/A"
    """Release of the bridge, as ``celery report`` shows it."""

    def __post_init__(self) -> None:
        self.listeners = 1
        """How many received the last event that was broadcast. One until it is known."""
        self.fast_dispatch: FastDispatch = lambda unit, channel, is_deputy: False
        """Tried before a message is made of a job that the channel got: True where it has begun already."""

    def attach(self, fast_dispatch: FastDispatch) -> None:
        """The consumer is ready: ask this first, for each job that the channel gets."""
        self.fast_dispatch = fast_dispatch

    def heard(self, receivers: int) -> None:
        """Note how many clients received the event that was just broadcast."""
        self.listeners = receivers

    def purge_objection(self, queue: str) -> str | None:
        """Return the sentence that refuses to empty this queue; None if that is allowed."""
        if self.allow_purge(queue):
            return None
        return (
            f"refused to purge {queue}: it is a Sidekiq queue, its jobs would be gone for Ruby as well. "
            "Use the Web UI's queue page, or set BRIDGE_ALLOW_PURGE=1 and name the queue with -Q."
        )

    def push(self, push: Push, job_class: str) -> None:
        """Push a job, and count it, unless a batch collects it. Raises PushHalted."""
        implied = ruby_push.implied()
        if (collect := collected.collector()) is not None:
            collect(push, job_class, implied)
            return
        self.write(push, job_class, implied)

    def write(self, push: Push, job_class: str, implied: Collection[str] | None = None) -> None:
        """Push a job now, and count it; with ``implied`` fields through Ruby. Raises PushHalted."""
        if push.tracked is not None:
            self.note_queued([(push.tracked, job_class, push.at)])
        queue: str | None = push.queue
        if implied is None:
            self.store().put(push.queue, push.payload, push.at)
        else:
            queue = self.ruby_client(job_class, push.payload, push.at, implied)
        if queue is None:
            raise ruby_push.PushHalted(f"{job_class}: the app's client middleware stopped the push")
        self.pushes.add(queue, job_class)

    def __repr__(self) -> str:
        # kombu hashes a connection by the repr of its options, and `inspect conf` prints them: no secret, no
        # address.
        return f"<BrokerContext {self.name}>"
