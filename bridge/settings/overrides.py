"""The settings about the Sidekiq that this worker works beside."""

from __future__ import annotations

from bridge.settings.model import Settings
from bridge.sidekiq.outcome.dialect import Overrides


def overrides(said: Settings) -> Overrides:
    """They beat what is detected."""
    return Overrides(
        said.sidekiq_version,
        said.max_retries,
        said.dead_max_jobs,
        said.dead_timeout_seconds,
        said.metrics_family,
        said.poison_pill_limit,
    )
