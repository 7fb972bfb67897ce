"""The moments that a user names: ``eta`` of a push and of a retry."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from celery.utils.time import make_aware

from bridge.errors import PushRefused


def aware(eta: Any, app: Any) -> datetime:
    """A datetime with its zone. A naive one, or ISO 8601 text without a zone, is in the app's ``timezone``.

    That is UTC unless the user sets another. Python itself takes a naive datetime for the machine's local
    time: ``utcnow() + 3 s`` ran five hours late in New York.

    Raises:
        PushRefused: neither a datetime nor ISO 8601 text.
    """
    try:
        when = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
        return when if when.tzinfo is not None else make_aware(when, app.timezone)
    except (ValueError, AttributeError):
        raise PushRefused(
            f"eta is {eta!r}: write a datetime, or text as 2030-12-31T23:59:59+00:00; or countdown in seconds"
        ) from None
