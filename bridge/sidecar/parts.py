"""The parts of a process that reach the sidecars; the runtime has them beside its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property

from bridge.event_loop import EventLoop
from bridge.settings import Settings
from bridge.sidecar import from_settings, stream_client
from bridge.sidecar.breaker import Breaker
from bridge.sidecar.client import Sidecar, SidecarClient
from bridge.sidecar.credentials import Credentials
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import Health
from bridge.sidecar.notices import Teller
from bridge.sidecar.promotion import Promotion
from bridge.sidecar.ruby_client import RubyClient
from bridge.sidecar.stream_client import StreamingSidecar
from bridge.sidekiq.outcome.decision import DeadLimits
from bridge.sidekiq.outcome.dialect import Dialect
from bridge.sidekiq.process.background import Background
from bridge.sidekiq.store.store import RedisStore


class SidecarParts:
    """Each is made once, when it is first asked for. They may be replaced before the worker starts."""

    settings: Settings
    dialect: Dialect
    on_health: list[Callable[[Health], None]]
    """Told of each answer of a sidecar, in the probing thread."""
    background: Background

    @property
    @abstractmethod
    def store(self) -> RedisStore:
        """The job store."""

    @abstractmethod
    def _follow_breaker(self) -> None:
        """The breaker's state has changed."""

    @cached_property
    def credentials(self) -> Credentials:
        """The shared secret, and certificates."""
        return from_settings.credentials(self.settings)

    @cached_property
    def fleet(self) -> Fleet:
        """All Puma workers of all sidecars."""
        return from_settings.fleet(self.settings, self.credentials)

    @cached_property
    def sidecar(self) -> Sidecar:
        """The client of the sidecars."""
        return from_settings.client(self.settings, self.fleet, self.credentials)

    def stream_from(self, event_loop: EventLoop, limit: int) -> None:
        """The pool parks Ruby tasks on this event loop's thread: give it streams."""
        client = self.sidecar
        if isinstance(client, SidecarClient):
            self.sidecar = StreamingSidecar(client, event_loop, limit)

    @cached_property
    def breaker(self) -> Breaker:
        """Keeps Ruby jobs in their queues while no sidecar can run them."""
        return Breaker(
            self.fleet,
            self._learn,
            on_change=self._follow_breaker,
            before_probe=lambda: stream_client.probe_streams(self.sidecar),
            after_probe=lambda: stream_client.open_streams(self.sidecar),
            probe_soon=lambda: self.background.nudge("sidecar"),
        )

    def probe_sidecar(self) -> float:
        """Ask the sidecars, with the secret and certificates of now. Returns seconds to the next time."""
        if self.credentials.refresh():
            self.fleet.close()
            if isinstance(self.sidecar, StreamingSidecar):
                self.sidecar.renew()
        return self.breaker.round()

    def note_outage(self, reason: str, *, rejected: bool = False) -> None:
        """A job met an outage of the sidecar."""
        if rejected:
            self.breaker.reject(reason)
        else:
            self.breaker.trip(reason)

    def _learn(self, health: Health) -> None:
        limits = DeadLimits(health.dead_max_jobs, health.dead_timeout_seconds)
        self.dialect.learn(health.sidekiq_version, health.max_retries, limits, bool(health.error_handlers))
        for told in self.on_health:
            told(health)
        self.promotion.learn(health.client_middleware if self.settings.promote_through_sidecar else ())

    @cached_property
    def promotion(self) -> Promotion:
        """The way of due jobs through the app's client middleware."""
        return Promotion(self._post_to_sidecar)

    @cached_property
    def ruby_client(self) -> RubyClient:
        """Pushes jobs through the app's client middleware."""
        return RubyClient(lambda: stream_client.plain(self.sidecar))

    @cached_property
    def teller(self) -> Teller:
        """Tells sidecars how jobs ended outside of Ruby."""
        return Teller(self.store, self.fleet, self._post_to_sidecar, self.breaker, self.background.nudge)

    def _post_to_sidecar(self, path: str, body: bytes, boot: str = "") -> bytes:
        return stream_client.plain(self.sidecar).post(path, body, boot)
