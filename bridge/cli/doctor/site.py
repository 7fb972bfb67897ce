"""Everything that the checks look at, asked for once."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import redis

from bridge import errors
from bridge.cli import asking, sidecars
from bridge.cli.parts import Parts
from bridge.settings import Settings
from bridge.sidecar.address import Address
from bridge.sidecar.health import Health, HealthProbe
from bridge.sidekiq.api.entries import Entry, Place
from bridge.sidekiq.api.processes import LeaseRow, ProcessRow, QueueRow

#: Jobs of each place that are read for their payloads.
SAMPLE = 200
PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class SidecarSight:
    """One sidecar: what it says, or why it says nothing."""

    url: str
    health: Health | None
    problem: str = ""
    code: str = ""
    """Why it refuses us, in its own word; ``away`` when it does not answer."""
    skew_seconds: float | None = None
    """How far its clock is ahead of ours."""


@dataclass(frozen=True, slots=True)
class ProbeSight:
    """The answer at the address where a worker on this machine should serve its probes."""

    where: str
    health: dict[str, Any] | None
    """A worker's own words; None when another program answers."""
    answers: bool = True


class Site:
    """The facts. Whatever cannot be asked (an ACL, a managed Redis) is empty, never an error."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @property
    def settings(self) -> Settings:
        return self.parts.settings

    def said(self, name: str) -> str:
        """The source of a setting, for the sentences that name it."""
        return self.settings.source(name)

    @property
    def client(self) -> redis.Redis:
        return self.parts.client

    @cached_property
    def info(self) -> dict[str, Any]:
        """Redis' INFO."""
        try:
            found: Any = self.client.info()
        except redis.RedisError:  # some services hide it; then there is nothing to say about it
            return {}
        return dict(found)

    @cached_property
    def config(self) -> dict[str, str]:
        """Redis' CONFIG; empty where it may not be read."""
        try:
            found: Any = self.client.config_get("*")
        except redis.RedisError:  # managed services and ACLs refuse it
            return {}
        return {str(name): str(value) for name, value in found.items()}

    @cached_property
    def processes(self) -> list[ProcessRow]:
        return self.parts.processes.all()

    @property
    def workers(self) -> list[ProcessRow]:
        """The workers of the bridge."""
        return [row for row in self.processes if row.is_bridge]

    @property
    def rubies(self) -> list[ProcessRow]:
        """The Sidekiq processes."""
        return [row for row in self.processes if not row.is_bridge]

    @cached_property
    def queues(self) -> list[QueueRow]:
        return self.parts.processes.queues()

    @cached_property
    def leases(self) -> list[LeaseRow]:
        return self.parts.processes.leases()

    @cached_property
    def now_ms(self) -> int:
        return self.parts.processes.now_ms()

    @cached_property
    def sidecars(self) -> list[SidecarSight]:
        asking = sidecars.probe(self.parts)
        return [_sidecar(asking, url) for url in self.settings.sidecar_url]

    @property
    def healths(self) -> list[Health]:
        """Those sidecars that answer."""
        return [sight.health for sight in self.sidecars if sight.health is not None]

    @cached_property
    def sample(self) -> list[Entry]:
        """Some jobs of every place: the next to run, the latest dead."""
        found: list[Entry] = []
        for place in self.parts.entries.places():
            found += self._some(place)
        return found

    @cached_property
    def probe(self) -> ProbeSight | None:
        """The worker's probes on this machine; None where none is to be expected (port 0)."""
        bind = self.settings.health_bind
        if bind.port == 0:
            return None
        host = _from_here(bind.host)
        where = f"http://[{host}]:{bind.port}" if ":" in host else f"http://{host}:{bind.port}"
        return _ask_worker(where)

    @cached_property
    def tasks(self) -> list[str] | None:
        """Names of the tasks that the workers have for jobs; None where no worker tells."""
        told = (self.probe.health or {}).get("tasks") if self.probe else None
        if isinstance(told, dict):
            return sorted({*told.get("native", ()), *told.get("unreachable", ())})
        return asking.tasks(self.settings) if self.workers else None

    @property
    def bare_tasks(self) -> set[str]:
        """Native tasks that run outside of the app's server middleware, as far as a worker tells."""
        told = (self.probe.health or {}).get("tasks") if self.probe else None
        inside = told.get("in_ruby_middleware", ()) if isinstance(told, dict) else ()
        return {*(self.tasks or ())} - {*inside, *self.settings.ruby_middleware}

    @cached_property
    def hostname(self) -> str:
        return socket.gethostname()

    def _some(self, place: Place) -> list[Entry]:
        try:
            return [
                entry for entry, _ in zip(self.parts.entries.in_order(place), range(SAMPLE), strict=False)
            ]
        except errors.StoreUnavailable:
            raise
        except errors.StoreError:  # a key of a wrong type, which a check of its own reports
            return []


def _sidecar(asking: HealthProbe, url: str) -> SidecarSight:
    before = time.time()
    try:
        health = asking.ask(Address.parse(url))
    except errors.SidecarUnavailable as error:
        return SidecarSight(url, None, str(error), "away")
    except errors.SidecarRejected as error:
        return SidecarSight(url, None, str(error), error.code)
    middle = (before + time.time()) / 2
    return SidecarSight(url, health, skew_seconds=None if health.now is None else health.now - middle)


def _from_here(host: str) -> str:
    """The address at which a server on all addresses is reached."""
    with contextlib.suppress(ValueError):  # a name
        if (address := ipaddress.ip_address(host)).is_unspecified:
            return "127.0.0.1" if address.version == 4 else "::1"
    return host


def _ask_worker(where: str) -> ProbeSight:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{where}/health", timeout=PROBE_SECONDS) as reply:
            health = json.loads(reply.read(1 << 20))
    except urllib.error.HTTPError:
        return ProbeSight(where, None)
    except (OSError, ValueError) as error:
        refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError | TimeoutError)
        return ProbeSight(where, None, answers=not refused)
    is_worker = isinstance(health, dict) and "fetch_loop" in health
    return ProbeSight(where, health if is_worker else None)
