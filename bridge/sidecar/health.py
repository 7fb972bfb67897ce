"""A sidecar's state: ``GET /health``."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridge import errors
from bridge.sidecar import schema, schema_health
from bridge.sidecar.address import Address
from bridge.sidecar.control_client import ControlClient
from bridge.sidecar.messages import BadReply, Reply
from bridge.sidecar.signature import PROTOCOL, Signer

PATH = "/health"
#: Several Puma workers listen on one address, and each wants to be named; a connection stays with one.
ADDRESSEES = 3


@dataclass(frozen=True, slots=True)
class PumaWorker:
    """One Puma worker process: its own address, boot id, and load."""

    address: Address
    boot: str
    slots: int
    busy: int
    draining: bool = False
    """Whether it is being replaced: what runs there goes on, and nothing new is sent to it."""
    traces_on_streams: bool = False
    """Whether a job on a stream may bring its trace context; older sidecars would take that for garbage."""
    takes_notices: bool = False
    """Whether it runs handlers for jobs that ended outside of Ruby; older sidecars do not."""
    pushes: bool = False
    """Whether it pushes jobs through the app's client middleware; older sidecars do not."""
    results: bool = False
    """Whether it reports what tracked jobs return; older sidecars would take the word for garbage."""
    values: bool = False
    """Whether it reports what jobs return that are not tracked, for shadows; older sidecars do not."""
    python_code: bool = False
    """Whether it runs middleware around a job's Python code; older sidecars would run the Ruby class."""


@dataclass(frozen=True, slots=True)
class AppQueue:
    """A queue that the app or one of its gems registers as it starts."""

    name: str
    concurrency: int | None
    """Jobs at once in its capsule; None without one."""
    ahead: bool
    """Whether it must not wait behind other queues in strict order."""
    capsule: str = ""
    """Name of its capsule; empty without one. Older sidecars name none: then each queue has its own."""


@dataclass(frozen=True, slots=True)
class Health:
    """The reply, as far as the worker uses it."""

    status: str
    sidekiq_version: str
    max_retries: int
    dead_max_jobs: int
    dead_timeout_seconds: int
    client_middleware: tuple[str, ...]
    cron: tuple[str, ...]
    """Gems for periodic jobs that the app has loaded."""
    workers: tuple[PumaWorker, ...]
    version: str = ""
    """Release of the sidecar."""
    now: float | None = None
    """Its clock, in epoch seconds."""
    timeout_seconds: float | None = None
    """Seconds that running jobs get after its TERM."""
    cron_unserved: tuple[str, ...] = ()
    """Gems for periodic jobs that need a Ruby Sidekiq process."""
    error_handlers: bool | None = None
    """Whether the app has error handlers of its own; None for a sidecar that takes no notices."""
    queues: tuple[AppQueue, ...] = ()
    """Queues that the app registers beyond those of the worker's settings."""
    gems: Mapping[str, str] = field(default_factory=dict)
    """Known gems that the app has loaded, with their versions."""
    fetch: str | None = None
    """Class of the app's own fetcher, which the worker does not use."""
    patches: tuple[str, ...] = ()
    """Changes of parts of Sidekiq that the sidecar lacks: ``<class>: <module>``, ``<class>#<method>``."""
    unknown_options: tuple[str, ...] = ()
    """Keys of ``sidekiq.yml`` that Sidekiq does not know."""
    database_pool: float | None = None
    """Connections of each process to the app's main database; None without one, and for older sidecars."""

    @property
    def ready(self) -> bool:
        """Whether it takes jobs."""
        return self.status == "ready"

    @property
    def slots(self) -> int:
        """How many jobs it runs at once."""
        return sum(worker.slots for worker in self.workers)


class HealthProbe:
    """Asks sidecars how they are, each time over a new connection. Safe for threads, and after a fork.

    Over the same TLS context as jobs, so a probe tells whether a job would get through. While no sidecar
    answers, five probes a second cost little more than connections that are refused.
    """

    def __init__(
        self,
        signer: Signer,
        timeout_seconds: float,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        named: str = "BRIDGE_SIDECAR_SECRET",
        objection: Callable[[Health], str | None] = lambda health: None,
    ) -> None:
        """``objection`` says why this worker must not take the jobs of an app."""
        self._objection = objection
        self._client = ControlClient(signer, timeout_seconds, tls)
        self._timeout = timeout_seconds
        self._named = named
        self._boots: dict[Address, str] = {}

    def ask(self, address: Address) -> Health:
        """Ask one sidecar.

        Raises:
            SidecarUnavailable: it cannot be reached or does not answer as a sidecar does.
            SidecarRejected: it refuses our secret or protocol, or its app has gems that this worker refuses.
        """
        try:
            reply = self._get(address)
        except (OSError, BadReply, UnicodeError) as error:  # the last for a host that can be no name
            raise errors.SidecarUnavailable(f"{address} cannot be reached: {error}") from error
        if reply.status in (400, 401, 403):
            raise self._refusal(address, reply)
        if reply.status != 200:
            raise errors.SidecarUnavailable(f"{address} answered {reply.status} to {PATH}")
        try:
            health = _parse(address, reply.body)
        except (ValueError, errors.ConfigurationError) as error:
            raise errors.SidecarUnavailable(
                f"{address} is not a sidecar: its {PATH} makes no sense ({error})"
            ) from None
        if (reason := self._objection(health)) is not None:
            raise errors.SidecarRejected(f"{address}: {reason}", "gems")
        return health

    def _refusal(self, address: Address, reply: Reply) -> errors.SidecarRejected:
        try:
            said = schema.read(schema.ERROR, reply.body)
        except ValueError:
            said = schema.ErrorReply(code="unknown", message="", protocol=None)
        if reply.status == 400:
            # Only version 1 does not say which protocol it speaks.
            return errors.SidecarRejected(_upgrade(address, said.protocol or 1), said.code)
        if said.code == "timestamp":
            text = f"{address} refuses this worker's clock: both must agree within a minute; synchronise them"
            return errors.SidecarRejected(text, said.code)
        text = (
            f"{address} refuses this worker's signature: give both sides the same secret "
            f"(here {self._named}, and clocks that agree within a minute)"
        )
        return errors.SidecarRejected(text, said.code)

    def _get(self, address: Address) -> Reply:
        """Ask the Puma worker that answered last time; another one that answers 421 says who it is."""
        with self._client.conversation(address) as talk:
            for _ in range(ADDRESSEES):
                reply = talk.ask("GET", PATH, self._boots.get(address), timeout_seconds=self._timeout)
                if reply.status != 421:
                    break
                self._boots[address] = _boot_in(reply)
        return reply


def _boot_in(reply: Reply) -> str:
    try:
        boot = schema.read(schema.ERROR, reply.body).boot
    except ValueError as error:
        raise BadReply(f"421 makes no sense: {error}") from None
    if boot is None:
        raise BadReply("421 names no Puma worker")
    return boot


def _parse(address: Address, body: bytes) -> Health:
    """Raises ValueError, ConfigurationError (an address that no sidecar may name), SidecarRejected."""
    theirs = schema.read(schema.PROTOCOL_OF, body).protocol
    if theirs != PROTOCOL:
        raise errors.SidecarRejected(_upgrade(address, theirs), "protocol")
    said = schema.read(schema.HEALTH, body)
    return Health(
        status=said.status,
        sidekiq_version=said.sidekiq,
        max_retries=said.max_retries,
        dead_max_jobs=said.dead.max_jobs,
        dead_timeout_seconds=said.dead.timeout_seconds,
        client_middleware=tuple(said.client_middleware),
        cron=tuple(said.cron),
        cron_unserved=tuple(said.cron_unserved),
        workers=tuple(_worker(address, said, found) for found in said.workers),
        version=said.version,
        now=said.now,
        timeout_seconds=said.timeout_seconds,
        database_pool=said.database_pool,
        error_handlers=said.error_handlers,
        queues=tuple(AppQueue(one.name, one.concurrency, one.ahead, one.capsule) for one in said.queues),
        gems=said.gems,
        fetch=said.fetch,
        patches=tuple(said.patches),
        unknown_options=tuple(said.unknown_options),
    )


def _worker(
    address: Address, said: schema_health.HealthReply, found: schema_health.WorkerState
) -> PumaWorker:
    return PumaWorker(
        address.peer(found.url),
        found.boot,
        found.slots,
        found.busy,
        draining=found.draining,
        traces_on_streams=said.traces_on_streams,
        takes_notices=said.error_handlers is not None,
        python_code=said.python_bodies,
        pushes=said.pushes,
        results=said.results,
        values=said.values,
    )


def _upgrade(address: Address, theirs: int) -> str:
    """Which side is older, in a sentence that says what to install."""
    older = "upgrade that sidecar" if theirs < PROTOCOL else "upgrade this worker"
    return f"{address} speaks protocol {theirs}, this worker {PROTOCOL}: {older}, both must be of one release"
