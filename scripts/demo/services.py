"""The demo's services: the commands a team would run, with the demo's addresses."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from scripts.demo import probes
from scripts.demo.place import FLOWER_USER, RAILS_APP, ROOT, Place
from scripts.demo.supervisor import Service

CONCURRENCY = "20"
WORKERS = 2
"""Processes of `bridge up`, with half of the slots each."""
# Longer than the 25 s that the workers give their running jobs, and the sidecar after them.
WORKER_STOP_SECONDS = 90.0


def redis_server(place: Place) -> Service:
    arguments = {
        "--port": str(place.redis_port),
        "--bind": probes.LOOPBACK,
        "--dir": str(place.redis_directory),
        "--appendonly": "yes",
        "--maxmemory-policy": "noeviction",
    }
    return Service(
        name="redis",
        command=["redis-server", *(word for pair in arguments.items() for word in pair)],
        ready=lambda: probes.redis_works_in(place.redis_url, place.redis_directory),
        env=place.environment,
    )


def web(place: Place) -> Service:
    return Service(
        name="web",
        command=["puma", "-C", "config/puma.rb", "config.ru"],
        ready=lambda: probes.http_status(place.web_port, "/up") == 200,
        cwd=RAILS_APP,
        env={
            **place.environment,
            "FLOWER_URL": place.flower_url,
            "PUMA_BIND": f"tcp://{probes.LOOPBACK}:{place.web_port}",
        },
    )


def bridge_up(place: Place) -> Service:
    """The sidecar with the Rails app, and the workers."""
    environment = _bridge_environment(place)
    # A sidecar of its own: the address is for commands by hand.
    del environment["BRIDGE_SIDECAR_URL"]
    processes = _new_processes(place.redis_url, WORKERS)
    return Service(
        name="worker",
        command=[
            str(Path(sys.executable).with_name("bridge")),
            *("up", "--workers", str(WORKERS), "--sidecar", str(RAILS_APP), "--puma", "1"),
            *("--sockets", str(place.socket_directory), "--", "-c", str(int(CONCURRENCY) // WORKERS)),
        ],
        ready=lambda: processes() and probes.unix_http_status(place.sidecar_socket, "/health/ready") == 200,
        cwd=ROOT,
        env=environment,
        stop_seconds=WORKER_STOP_SECONDS,
    )


def flower(place: Place) -> Service:
    return Service(
        name="flower",
        command=[*_celery(), "flower", f"--address={probes.LOOPBACK}", f"--port={place.flower_port}"],
        ready=lambda: probes.http_status(place.flower_port, "/healthcheck") == 200,
        cwd=ROOT,
        # The password is not on the command line, where every user of the machine can read it.
        env={**_bridge_environment(place), "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{place.flower_password}"},
    )


def beat(place: Place) -> Service:
    """Enqueues the periodic jobs of rails_app/python/demo_schedule.py."""
    schedule = place.directory / "beat-schedule"
    celery, *_ = _celery()
    return Service(
        name="beat",
        command=[celery, "-A", "demo_schedule", "beat", "-s", str(schedule), "--pidfile", ""],
        ready=lambda: any(place.directory.glob(f"{schedule.name}*")),  # dbm adds a suffix of its own
        cwd=ROOT,
        env=_bridge_environment(place),
    )


def stock_sidekiq(place: Place) -> Service:
    """In the place of worker and sidecar: to compare, and to try the Rails app alone."""
    return Service(
        name="worker",
        command=["sidekiq", "-r", str(RAILS_APP), "-C", "rails_app/config/sidekiq.yml", "-c", CONCURRENCY],
        ready=_new_processes(place.redis_url, 1),
        cwd=ROOT,
        env=place.environment,
        stop_seconds=WORKER_STOP_SECONDS,
    )


def waiting_jobs(redis_url: str) -> int:
    """The jobs in the queues and sets of this Redis."""
    with redis.Redis.from_url(
        redis_url, socket_timeout=probes.PROBE_SECONDS, decode_responses=True
    ) as client:
        connection: Any = client
        queued = [connection.llen(f"queue:{name}") for name in connection.smembers("queues")]
        return sum([*queued, *(connection.zcard(name) for name in ("schedule", "retry", "dead"))])


def sidekiq_processes(redis_url: str) -> set[str]:
    """The Sidekiq processes, bridge or Ruby, that work on this Redis now."""
    with redis.Redis.from_url(redis_url, socket_timeout=probes.PROBE_SECONDS) as connection:
        client: Any = connection
        # A process that died stays in the set; its own key has run out.
        return {identity for identity in client.smembers("processes") if client.exists(identity)}


def _new_processes(redis_url: str, count: int) -> Callable[[], bool]:
    """True once ``count`` new ones show up; one that crashed leaves its row for a while."""
    before = sidekiq_processes(redis_url)
    return lambda: len(sidekiq_processes(redis_url) - before) >= count


def _celery() -> list[str]:
    return [str(Path(sys.executable).with_name("celery")), "-A", "bridge"]


def _bridge_environment(place: Place) -> dict[str, str]:
    return place.environment | place.bridge_settings
