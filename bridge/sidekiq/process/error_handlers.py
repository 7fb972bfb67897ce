"""Whether the app has error handlers of its own: a sidecar says it, and Redis remembers it for later workers.

A notice of each failure costs more than the failure, so a worker writes them only for an app that hears them.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from bridge.errors import StoreError
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.dialect import Dialect

logger = logging.getLogger(__name__)

RENEW_SECONDS = 86_400.0


class ErrorHandlers:
    """Carries an answer about the app's error handlers between dialect and Redis. Called by one thread."""

    def __init__(self, dialect: Dialect, client: Any) -> None:
        self._dialect = dialect
        self._client = client
        self._stored: bool | None = None
        self._stored_at = -RENEW_SECONDS

    def recall(self) -> None:
        """Use the last answer of any sidecar, where none has answered this worker. Raises StoreError."""
        if self._dialect.error_handlers is None:
            with outages():
                self._stored = bool(self._client.exists(keys.ERROR_HANDLERS))
            self._dialect.assume_error_handlers(self._stored)

    def remember(self) -> None:
        """Store what a sidecar has just said, once, and again after each change."""
        known = self._dialect.error_handlers
        is_fresh = not known or time.monotonic() - self._stored_at < RENEW_SECONDS
        if known is None or (known == self._stored and is_fresh):
            return
        try:
            with outages():
                if known:
                    self._client.set(keys.ERROR_HANDLERS, 1, ex=keys.ERROR_HANDLERS_TTL_SECONDS)
                else:
                    self._client.delete(keys.ERROR_HANDLERS)
        except StoreError as error:
            logger.warning("Redis does not know whether the app has error handlers: %s", error)
        else:
            self._stored, self._stored_at = known, time.monotonic()
