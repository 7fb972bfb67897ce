"""What a sidecar says of itself: ``GET /health``, asked with requests (a probe, not the hot path)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from bridge import errors
from bridge.sidecar.address import Address
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
    """Asks sidecars how they are."""

    def __init__(
        self,
        signer: Signer,
        timeout_seconds: float,
        verify: str | bool = True,
        cert: tuple[str, str] | None = None,
    ) -> None:
        self._signer = signer
        self._timeout = timeout_seconds
        self._session = requests.Session()
        # HTTP_PROXY and .netrc are not asked: the sidecar is where the settings say, and nowhere else.
        self._session.trust_env = False
        self._session.verify = verify
        self._session.cert = cert
        self._session.mount("http+unix://", _UnixAdapter())
        self._boots: dict[Address, str] = {}

    def ask(self, address: Address) -> Health:
        """Ask one sidecar.

        Raises:
            SidecarUnavailable: it cannot be reached or does not answer as a sidecar does.
            SidecarRejected: it refuses our secret or protocol.
        """
        try:
            reply = self._get(address)
        except requests.RequestException as error:
            raise errors.SidecarUnavailable(f"{address} cannot be reached: {_root_cause(error)}") from error
        if reply.status_code in (400, 401, 403):
            code = _code_of(reply)
            raise errors.SidecarRejected(_refusal(address, reply.status_code, code), code)
        if reply.status_code != 200:
            raise errors.SidecarUnavailable(f"{address} answered {reply.status_code} to {PATH}")
        try:
            return _parse(address, reply.json())
        except (ValueError, KeyError, TypeError, AttributeError, errors.ConfigurationError) as error:
            raise errors.SidecarUnavailable(
                f"{address} is no sidecar: its {PATH} makes no sense ({error!r})"
            ) from error

    def _get(self, address: Address) -> requests.Response:
        """Ask the Puma worker that answered last time; another one that answers 421 says who it is."""
        for _ in range(ADDRESSEES):
            reply = self._get_from(address, self._boots.get(address))
            if reply.status_code != 421:
                break
            self._boots[address] = _boot_of(reply)
        return reply

    def _get_from(self, address: Address, boot: str | None) -> requests.Response:
        named = [("X-Bridge-Boot", boot)] if boot else []
        signed = self._signer.sign("GET", PATH, [("X-Bridge-Protocol", str(PROTOCOL)), *named], b"")
        base = f"http+unix://{address.path.replace('/', '%2F')}" if address.scheme == "unix" else str(address)
        return self._session.get(
            base + PATH, headers=dict(signed), timeout=self._timeout, allow_redirects=False
        )


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


def _boot_of(reply: requests.Response) -> str:
    try:
        return str(reply.json()["boot"])
    except (ValueError, KeyError, TypeError):
        return ""


def _code_of(reply: requests.Response) -> str:
    try:
        return str(reply.json()["code"])
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


def _root_cause(error: BaseException) -> str:
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return str(cause)


class _UnixConnection(urllib3.connection.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5)
        self.sock.connect(self._path)


class _UnixPool(urllib3.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self._path)


class _UnixAdapter(HTTPAdapter):
    """requests over a Unix socket; no package does it with one pool for all paths."""

    def __init__(self) -> None:
        super().__init__()
        self._pools: dict[str, _UnixPool] = {}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> _UnixPool:
        """The pool for the socket that the URL's host names."""
        path = (
            str(request.url)
            .removeprefix("http+unix://")
            .split("/", 1)[0]
            .replace("%2F", "/")
            .replace("%2f", "/")
        )
        return self._pools.setdefault(path, _UnixPool(path))

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """The path alone: there is no proxy on a Unix socket."""
        return str(request.path_url)
