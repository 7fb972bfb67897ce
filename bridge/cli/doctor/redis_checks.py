"""What Redis must be like. ``docs/operations.md`` has the reasons."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from typing import Any

from bridge import errors
from bridge.cli.doctor.finding import Check, Finding, error, hint, warning
from bridge.cli.doctor.site import Site
from bridge.settings import Settings, redis_mistakes

OLDEST = (6, 2)
OLDEST_FOR_SIDEKIQ_8 = (7, 0)
MOST_SKEW_SECONDS = 2.0
SLOW_MS = 10.0


def away(settings: Settings, outage: errors.StoreUnavailable) -> Finding:
    """Why nothing was heard of Redis, and what to do about it."""
    mistake = redis_mistakes.explain(outage.__cause__ or outage, settings)
    return error("redis-away", mistake.seen, mistake.cure)


def version(site: Site) -> Iterator[Finding]:
    text = str(site.info.get("redis_version", ""))
    found = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if found and found < OLDEST:
        yield error("redis-version", f"Redis is {text}", "update it to 6.2 or later (or Valkey)")
    elif found and found < OLDEST_FOR_SIDEKIQ_8 and any(v >= 8 for v in _sidekiq_majors(site)):
        yield error("redis-version", f"Redis is {text}; Sidekiq 8 wants 7.0", "update Redis to 7.0 or later")


def cluster(site: Site) -> Iterator[Finding]:
    if site.info.get("cluster_enabled"):
        yield error("redis-cluster", "this is Redis Cluster", "use one server, or Sentinel: as for Sidekiq")


def replica(site: Site) -> Iterator[Finding]:
    if site.info.get("role") == "slave":
        cure = (
            f"name the master ({site.info.get('master_host')}:{site.info.get('master_port')}), or sentinel://"
        )
        yield error("redis-replica", "this Redis is a replica: nothing can be written", cure)


def eviction(site: Site) -> Iterator[Finding]:
    policy = site.info.get("maxmemory_policy") or site.config.get("maxmemory-policy")
    if policy and policy != "noeviction":
        limit = int(site.info.get("maxmemory") or 0)
        made = error if limit else warning
        when = "a full Redis" if limit else "as soon as it has a limit, a full Redis"
        seen = f"maxmemory-policy is {policy}: {when} drops jobs"
        yield made(
            "redis-eviction", seen, "CONFIG SET maxmemory-policy noeviction, and write it to redis.conf"
        )


def memory(site: Site) -> Iterator[Finding]:
    limit, used = int(site.info.get("maxmemory") or 0), int(site.info.get("used_memory") or 0)
    if limit and used > 0.75 * limit:
        made = error if used > 0.9 * limit else warning
        seen = f"{used / limit:.0%} of maxmemory is used ({used >> 20} of {limit >> 20} MB)"
        yield made(
            "redis-memory", seen, "raise maxmemory, or empty what is large: bridge queues, bridge status"
        )


def persistence(site: Site) -> Iterator[Finding]:
    appends = bool(site.info.get("aof_enabled"))
    if site.config and not appends and not site.config.get("save"):
        seen = "neither append-only file nor snapshots: a restart of Redis loses every job"
        yield warning("redis-persistence", seen, "set appendonly yes in redis.conf")
    for name, what in (
        ("rdb_last_bgsave_status", "snapshot"),
        ("aof_last_write_status", "write to the append-only file"),
    ):
        if site.info.get(name, "ok") != "ok":
            yield error(
                "redis-disk",
                f"the last {what} failed",
                "look at Redis' log and at the free space of its disk",
            )


def clock(site: Site) -> Iterator[Finding]:
    before = time.time()
    theirs = site.parts.processes.now_ms() / 1000
    skew = theirs - (before + time.time()) / 2
    if abs(skew) > MOST_SKEW_SECONDS:
        made = error if abs(skew) > 30 else warning
        seen = f"Redis' clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
        yield made("redis-clock", seen, "run a time service (chrony, systemd-timesyncd) on both machines")


def speed(site: Site) -> Iterator[Finding]:
    laps = sorted(_lap_ms(site.client) for _ in range(5))
    if laps[2] > SLOW_MS:
        cure = "put worker and Redis into one network; look at SLOWLOG GET and at the load of both"
        yield warning("redis-slow", f"Redis answers in {laps[2]:.0f} ms", cure)


def connections(site: Site) -> Iterator[Finding]:
    used, limit = int(site.info.get("connected_clients") or 0), int(site.info.get("maxclients") or 0)
    if limit and used > 0.9 * limit:
        yield error("redis-clients", f"{used} of {limit} connections are in use", "raise maxclients")


def exposure(site: Site) -> Iterator[Finding]:
    url = site.settings.redis_url
    far = [address.host for address in url.addresses if not _is_local(address.host)]
    if far and not url.is_tls:
        tls = f"write {url.scheme}s:// into {site.said('redis_url')} (BRIDGE_REDIS_CA names its CA)"
        cure = f"{tls}, unless the network between is private"
        yield hint("redis-clear", f"jobs travel to {far[0]} in the clear", cure)
    if url.is_sentinel or url.password:
        return
    if site.config.get("protected-mode") == "no" and not _bound_to_loopback(site.config.get("bind", "")):
        cure = "set a password (ACL or requirepass), or bind it to the addresses that need it"
        yield error("redis-open", "Redis takes anybody without a password, from any machine", cure)


def _lap_ms(client: Any) -> float:
    started = time.perf_counter()
    client.ping()
    return (time.perf_counter() - started) * 1000


def _sidekiq_majors(site: Site) -> set[int]:
    texts = [*(row.version for row in site.rubies), *(health.sidekiq_version for health in site.healths)]
    return {int(text.split(".")[0]) for text in texts if text[:1].isdigit()}


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name: may be anywhere
        return False


def _bound_to_loopback(bind: str) -> bool:
    hosts = [host.removeprefix("-") for host in bind.split()]
    return bool(hosts) and all(_is_local(host) for host in hosts)


CHECKS: tuple[Check, ...] = (
    version, cluster, replica, eviction, memory, persistence, clock, speed, connections, exposure,
)  # fmt: skip
