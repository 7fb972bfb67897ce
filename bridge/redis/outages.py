"""Tells an outage of Redis from a wrong request, and turns the client library's errors into ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.sentinel import MasterNotFoundError

from bridge import errors
from bridge.redis.outage_codes import tells_of_outage

NO_MASTER = "no sentinel names a master"


def is_outage(error: BaseException) -> bool:
    """Whether Redis (or the way to it) is down, rather than the request wrong."""
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
        return not isinstance(error, redis.AuthenticationError)
    # redis-py takes the code off the text where it has a class for it; Redis 6.2 wraps it in another.
    code = getattr(error, "status_code", None) or str(error).split(" ", 1)[0]
    return isinstance(error, redis.ResponseError) and tells_of_outage(code, str(error))


@contextmanager
def outages() -> Iterator[None]:
    """Turn the client library's errors into :class:`StoreUnavailable` and :class:`StoreError`."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise connection_error(error) from error


def connection_error(error: redis.RedisError | OSError) -> errors.StoreError:
    """The error of ours for what a call of the client library raised."""
    return translated(error) if isinstance(error, redis.RedisError) else errors.StoreUnavailable(text(error))


def translated(error: redis.RedisError) -> errors.StoreError:
    """The error of ours that says the same."""
    return errors.StoreUnavailable(text(error)) if is_outage(error) else errors.StoreError(text(error))


def text(error: BaseException) -> str:
    """The error in words. The library's own about sentinels shows each client with all its options."""
    if not isinstance(error, MasterNotFoundError):
        return str(error)
    reasons = dict.fromkeys(re.findall(r" - (?:\w+:)?(\w+Error)", str(error)))
    return f"{NO_MASTER} ({', '.join(reasons) or 'none is known by this name'})"


def raise_first_error(results: Sequence[Any]) -> None:
    """Raise the first error among the results of a pipeline, as one of ours."""
    for result in results:
        if isinstance(result, redis.RedisError):
            raise translated(result) from result
