"""The workers' answers to Celery's remote control."""

from __future__ import annotations

import kombu.exceptions
import redis

from bridge import errors
from bridge.monitoring import native_names
from bridge.settings import Settings

#: Workers answer within milliseconds; one that runs a job on the consumer's thread (solo) does not.
REPLY_SECONDS = 1.0


def tasks(settings: Settings) -> list[str] | None:
    """Names of the tasks that users wrote and workers have; None where no worker answers.

    Nothing is asked where remote control is off: the worker's Redis user may not publish then.
    """
    if not settings.remote_control:
        return None
    from bridge.celery import make_app  # half a second of imports, which the usual case does not need

    try:
        replies = make_app(settings).control.inspect(timeout=REPLY_SECONDS).registered()
    except (errors.BridgeError, kombu.exceptions.OperationalError, redis.RedisError):
        return None  # this Redis user may not ask: what depends on it is not looked at
    return native_names.ours({name for names in replies.values() for name in names}) if replies else None
