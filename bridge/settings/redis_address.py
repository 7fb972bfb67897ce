"""From the settings to the address that a Redis client is made with."""

from __future__ import annotations

from pathlib import Path

from bridge.redis.client import RedisAddress
from bridge.settings.model import Settings


def redis_address(settings: Settings) -> RedisAddress:
    """Where Sidekiq's Redis is, and how it is spoken to."""
    url = settings.redis_url
    first = url.addresses[0]
    sentinels = [(address.host, address.port) for address in url.addresses] if url.is_sentinel else []
    return RedisAddress(
        host=first.host,
        port=first.port,
        database=url.db,
        username=url.username,
        password=url.password,
        tls=url.is_tls,
        ca=_text(settings.redis_ca),
        cert=_text(settings.redis_cert),
        key=_text(settings.redis_key),
        sentinels=sentinels,
        master=url.master or "",
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
