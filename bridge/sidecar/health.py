"""What a sidecar says of itself: ``GET /health``."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from bridge import errors
from bridge.sidecar.address import Address
from bridge.sidecar.http import BadReply, HttpConnection, Reply, request_bytes
from bridge.sidecar.signature import Signer

PROTOCOL = 1
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
    """What running jobs get after its TERM."""
    cron_unserved: tuple[str, ...] = ()
    """Gems for periodic jobs that need a Ruby Sidekiq process."""
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
        self, signer: Signer, timeout_seconds: float, tls: Callable[[], ssl.SSLContext | None] = lambda: None
    ) -> None:
        self._signer = signer
        self._timeout = timeout_seconds
        self._tls = tls
        self._boots: dict[Address, str] = {}

    def ask(self, address: Address) -> Health:
        """Ask one sidecar.

        Raises:
            SidecarUnavailable: it cannot be reached or does not answer as a sidecar does.
            SidecarRejected: it refuses our secret or protocol.
        """
        try:
            reply = self._get(address)
        except (OSError, BadReply, UnicodeError) as error:  # the last for a host that can be no name
            raise errors.SidecarUnavailable(f"{address} cannot be reached: {error}") from error
        if reply.status in (400, 401, 403):
            code = _member(reply, "code")
            raise errors.SidecarRejected(_refusal(address, reply.status, code), code)
        if reply.status != 200:
            raise errors.SidecarUnavailable(f"{address} answered {reply.status} to {PATH}")
        try:
            return _parse(address, json.loads(reply.body))
        except (ValueError, KeyError, TypeError, AttributeError, errors.ConfigurationError) as error:
            raise errors.SidecarUnavailable(
                f"{address} is no sidecar: its {PATH} makes no sense ({error!r})"
            ) from error

    def _get(self, address: Address) -> Reply:
        """Ask the Puma worker that answered last time; another one that answers 421 says who it is."""
        with ExitStack() as opened:
            connection = None
            for _ in range(ADDRESSEES):
                connection = connection or opened.enter_context(closing(self._connect(address)))
                reply = connection.exchange(self._request(address), self._timeout)
                if reply.status != 421:
                    break
                self._boots[address] = _member(reply, "boot")
                if not reply.keep_alive:
                    connection = None
        return reply

    def _connect(self, address: Address) -> HttpConnection:
        return HttpConnection(address, self._timeout, self._tls())

    def _request(self, address: Address) -> bytes:
        boot = self._boots.get(address)
        named = [("X-Bridge-Boot", boot)] if boot else []
        signed = self._signer.sign("GET", PATH, [("X-Bridge-Protocol", str(PROTOCOL)), *named], b"")
        return request_bytes("GET", PATH, address.authority, signed, b"")


def _parse(address: Address, reply: Mapping[str, Any]) -> Health:
    if reply["protocol"] != PROTOCOL:
        raise errors.SidecarRejected(
            f"{address} speaks protocol {reply['protocol']}, this worker {PROTOCOL}: "
            "install matching releases of both",
            "protocol",
        )
    return Health(
        status=reply["status"],
        sidekiq_version=str(reply["sidekiq"]),
        max_retries=int(reply["max_retries"]),
        dead_max_jobs=int(reply["dead"]["max_jobs"]),
        dead_timeout_seconds=int(reply["dead"]["timeout_seconds"]),
        client_middleware=tuple(map(str, reply.get("client_middleware") or ())),
        cron=tuple(map(str, reply.get("cron") or ())),
        cron_unserved=tuple(map(str, reply.get("cron_unserved") or ())),
        workers=tuple(_worker(address, reply, found) for found in reply["workers"]),
        version=str(reply.get("version") or ""),
        now=_number(reply.get("now")),
        timeout_seconds=_number(reply.get("timeout_seconds")),
        database_pool=_number(reply.get("database_pool")),
    )


def _worker(address: Address, reply: Mapping[str, Any], found: Mapping[str, Any]) -> PumaWorker:
    return PumaWorker(
        address.peer(found["url"]),
        str(found["boot"]),
        int(found["slots"]),
        int(found["busy"]),
        draining=found.get("draining") is True,
        traces_on_streams=reply.get("traces_on_streams") is True,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _member(reply: Reply, name: str) -> str:
    try:
        return str(json.loads(reply.body)[name])
    except (ValueError, KeyError, TypeError):
        return ""


def _refusal(address: Address, status: int, code: str) -> str:
    if status == 400:
        return f"{address} refuses this worker's protocol: install matching releases of worker and sidecar"
    if code == "timestamp":
        return f"{address} refuses this worker's clock: both must agree within a minute; synchronise them"
    return (
        f"{address} refuses this worker's signature: give both sides the same BRIDGE_SIDECAR_SECRET "
        "(and clocks that agree within a minute)"
    )
