"""Translates an error of Redis into a mistake of the settings: the variable or key to correct."""

from __future__ import annotations

from typing import NamedTuple

from bridge.redis.outages import NO_MASTER, text
from bridge.settings.model import Settings

#: A client's error about bytes that are not Redis' protocol, such as an HTTP server's.
_NOT_REDIS = ("Protocol error", "Protocol Error")
_NO_DATABASE = ("DB index",)
#: Beginnings of what Redis or its client says, what that means, and what to write where the URL was said.
_REFUSALS = (
    (("without any password configured",), "has no password for this user",
     "take the password out of {url}, or set one on Redis (requirepass, ACL SETUSER)"),
    (("NOAUTH", "Authentication required"), "wants a password", "write it into {url}: redis://:password@host:port/0"),
    (("WRONGPASS", "invalid username-password", "invalid password"), "refuses this user or password",
     "write the user and the password that this Redis knows into {url}"),
    (_NO_DATABASE, "has no database of this number", "write the number of a database that it has into {url}: redis://host:6379/0"),
    (_NOT_REDIS, "is not a Redis server: something else listens there",
     "correct the port in {url}"),
)  # fmt: skip
#: How a server that expects TLS ends a connection that begins without it.
_CUT = ("Connection reset", "Connection closed")
_CERTIFICATE = ("certificate verify failed", "CERTIFICATE")
#: Redis answers, and waiting will not change what it says.
REFUSED = ("AUTH", "Authentication required", "NOAUTH", "WRONGPASS", "invalid username-password")


class RedisMistake(NamedTuple):
    """``seen`` and ``cure`` are halves of one sentence."""

    seen: str
    cure: str

    def __str__(self) -> str:
        return f"{self.seen}: {self.cure}"


def explain(error: BaseException, settings: Settings) -> RedisMistake:
    """Why Redis could not be used, in words for the person who wrote the settings."""
    said, url = text(error).rstrip("."), settings.source("redis_url")
    if said.startswith(NO_MASTER) and is_refusal(error):
        variable = settings.source("redis_sentinel_password")
        return RedisMistake(
            f"the sentinels of {settings.redis_url} refuse this user or password ({said})",
            f"write theirs into {variable} (the password in {url} is for the master)",
        )
    for words, meaning, cure in _REFUSALS:
        if any(word in said for word in words):
            return RedisMistake(f"Redis at {settings.redis_url} {meaning} ({said})", cure.format(url=url))
    return RedisMistake(
        f"Redis at {settings.redis_url} does not answer ({said})", _cure_of_silence(said, settings)
    )


def is_refusal(error: BaseException) -> bool:
    """Whether Redis answers, and refuses this user or password."""
    said = text(error)
    return any(word in said for word in REFUSED) or (NO_MASTER in said and "AuthenticationError" in said)


def is_wrong_address(error: BaseException) -> bool:
    """Whether the URL names another server, or a database that this Redis does not have."""
    return any(word in str(error) for word in (*_NOT_REDIS, *_NO_DATABASE))


def _cure_of_silence(said: str, settings: Settings) -> str:
    if any(word in said for word in _CERTIFICATE):
        return f"name the CA of its certificate with {settings.source('redis_ca')}"
    url = settings.source("redis_url")
    start = f"start it, or {'correct' if settings.says('redis_url') else 'set'} {url}"
    scheme, no_master = settings.redis_url.scheme, said.startswith(NO_MASTER)
    if settings.redis_url.is_tls:
        ca = f"; {settings.source('redis_ca')} names the CA of their certificates" if no_master else ""
        return f"{start}; where it speaks no TLS write {scheme[:-1]}://{ca}"
    if no_master or any(word in said for word in _CUT):
        return f"{start}; where it speaks TLS write {scheme if no_master else 'redis'}s://"
    return start
