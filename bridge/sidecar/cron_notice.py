"""Says at the start of a worker what becomes of the app's periodic jobs: they must not stop silently."""

from __future__ import annotations

import logging

from bridge.sidecar.health import Health

logger = logging.getLogger(__name__)


class CronNotice:
    """One line for each gem for periodic jobs that a sidecar reports, said once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, health: Health) -> None:
        """Name what is new in this answer of a sidecar."""
        for gem in dict.fromkeys(health.cron):
            if gem not in self._said:
                self._said.add(gem)
                self._tell(gem, served=gem not in health.cron_unserved)

    def _tell(self, gem: str, *, served: bool) -> None:
        if served:
            logger.info("periodic jobs: the sidecar runs the app's %s", gem)
        else:
            logger.warning(
                "periodic jobs of %s are NOT enqueued by the bridge: keep one Ruby Sidekiq process running "
                "for them, or move their schedule to celery beat (docs/operations.md, Cron)",
                gem,
            )
