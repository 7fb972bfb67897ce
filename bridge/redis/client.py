"""Makes Redis clients: plain or over TLS (always verified), also through Sentinel."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bridge.redis.address import RedisAddress
from bridge.redis.commands import introduce
from bridge.redis.encoding import CommandPacker
from bridge.redis.sentinel import MasterFollower

__all__ = ["RedisAddress", "connect", "follower", "own_connection"]


def follower(address: RedisAddress) -> MasterFollower | None:
    """Who keeps all connections at the master; None where there is one server only."""
    if not address.sentinels:
        return None
    return MasterFollower(address)


def connect(address: RedisAddress, following: MasterFollower | None = None) -> redis.Redis:
    """A client with a pool of its own; connections are made at first use.

    ``following`` is that of the process, where it has one: see :func:`follower`.
    """
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "socket_timeout": address.timeout_seconds,
        "socket_connect_timeout": address.connect_timeout_seconds,
        "socket_keepalive": True,
        "redis_connect_func": introduce,
        # The library's own retries would send a claim twice; we know better when that is safe.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if following := following or follower(address):
        return _safely_packing(following.client(**options))
    if address.path:
        return _safely_packing(redis.Redis(unix_socket_path=address.path, **options))
    return _safely_packing(redis.Redis(address.host, address.port, **options, **address.tls_options))


def _safely_packing(client: redis.Redis) -> redis.Redis:
    # The client does not hand it on to its connections.
    client.connection_pool.connection_kwargs["command_packer"] = CommandPacker()
    return client


def own_connection(client: redis.Redis) -> Any:
    """A connection as the client makes them, outside of its pool: a pool counts each one for good."""
    pool = client.connection_pool
    return pool.connection_class(**pool.connection_kwargs)
