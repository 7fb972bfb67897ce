"""The parts that the commands work with, made from the settings at first use."""

from __future__ import annotations

from functools import cached_property

import click
import redis

from bridge import errors
from bridge.batches.effects import effects as batch_effects
from bridge.limits.admission import of_others
from bridge.limits.declarers import Declarers
from bridge.limits.gates import Limits
from bridge.redis.client import connect
from bridge.results.following import Following
from bridge.results.results import Results
from bridge.results.tracking import EndOfJob
from bridge.settings import Settings, redis_mistakes
from bridge.settings import load as load_settings
from bridge.settings.overrides import overrides
from bridge.sidecar import from_settings
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.ruby_client import RubyClient
from bridge.sidekiq.api.actions import Actions
from bridge.sidekiq.api.commands import Commands
from bridge.sidekiq.api.entries import Entries
from bridge.sidekiq.api.processes import Processes
from bridge.sidekiq.outcome.dialect import Dialect
from bridge.sidekiq.payload.tracked import Tracked
from bridge.sidekiq.process import version_probe
from bridge.sidekiq.store.store import RedisStore


class Parts:
    """The parts of one command."""

    @cached_property
    def settings(self) -> Settings:
        """The settings in force. Raises ConfigurationError."""
        return load_settings()

    @cached_property
    def client(self) -> redis.Redis:
        """A client of Sidekiq's Redis that has been heard of once.

        Raises:
            StoreUnavailable: it does not answer; the sentence says where it was looked for.
        """
        client = connect(self.settings.redis_address)
        try:
            client.ping()
        except (redis.RedisError, OSError) as error:
            raise errors.StoreUnavailable(str(redis_mistakes.explain(error, self.settings))) from error
        return client

    @cached_property
    def store(self) -> RedisStore:
        """The job store."""
        store = RedisStore(self.client, lambda: self.dialect.dead_limits)
        ending = EndOfJob(lambda: self.settings.result_ttl_seconds, lambda: self.tracked)
        following = Following(lambda: self.dialect.timestamps, store.now)
        store.effects.sources += [batch_effects, ending.of_any, following.effects]
        store.effects.sources.append(
            of_others(Limits(self.settings.limits), Declarers(self.client).declared_by)
        )
        store.tell_ruby(self.settings.has_sidecar)
        return store

    @cached_property
    def results(self) -> Results:
        """Results of tracked jobs."""
        ttl = self.settings.result_ttl_seconds
        return Results(Tracked(self.settings.track), lambda: self.store, ttl)

    @cached_property
    def tracked(self) -> Tracked:
        """The jobs that the workers track, and those that the settings name."""
        return Tracked([*self.settings.track, *self.results.store.announced()])

    @cached_property
    def processes(self) -> Processes:
        """All processes on this Redis."""
        return Processes(self.client)

    @cached_property
    def entries(self) -> Entries:
        """The waiting jobs."""
        return Entries(self.client)

    @cached_property
    def actions(self) -> Actions:
        """Changes waiting jobs."""
        return Actions(self.store, lambda: self.dialect.timestamps, lambda: self.dialect.dead_limits)

    @cached_property
    def commands(self) -> Commands:
        """Gives orders."""
        return Commands(self.client)

    @cached_property
    def sidecar(self) -> SidecarClient:
        """The client of the sidecars."""
        self.settings.require_safe_sidecar()
        shown = from_settings.credentials(self.settings)
        return from_settings.client(self.settings, from_settings.fleet(self.settings, shown), shown)

    @cached_property
    def ruby_client(self) -> RubyClient:
        """Pushes jobs through the Rails app."""
        client = self.sidecar
        return RubyClient(lambda: client)

    @cached_property
    def dialect(self) -> Dialect:
        """Which Sidekiq the timestamps are written for: the settings', else that of the processes."""
        dialect = Dialect(overrides(self.settings))
        version_probe.teach(dialect, self.client, "")
        return dialect


pass_parts = click.make_pass_decorator(Parts, ensure=True)
