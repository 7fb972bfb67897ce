"""What the doctor says, and the faults that stand in Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.support.command import Answer, Bridge
from tests.support.redis_server import RedisServer


@dataclass(frozen=True)
class Seen:
    """One finding of the doctor."""

    severity: str
    seen: str
    cure: str


def findings(answer: Answer) -> dict[str, Seen]:
    """By code; of several with one code the first."""
    found: dict[str, Seen] = {}
    for one in answer.json:
        found.setdefault(one.pop("code"), Seen(**one))
    return found


def diagnose(bridge: Bridge) -> dict[str, Seen]:
    return findings(bridge("doctor", "--json"))


def job(**fields: Any) -> bytes:
    return json.dumps(
        {"class": "EchoJob", "args": [], "jid": "a" * 24, "queue": "default", **fields}
    ).encode()


def push(client: redis.Redis, queue: str, **fields: Any) -> None:
    client.sadd("queues", queue)
    client.lpush(f"queue:{queue}", job(queue=queue, **fields))


def bury(client: redis.Redis, error_class: str) -> None:
    client.zadd("dead", {job(error_class=error_class, error_message="why"): time.time()})


def hold(client: redis.Redis, version: bytes) -> None:
    client.hset("bridge:inflight:gone:1:ab", "1", version + b"\ndefault\n" + job())
    client.zadd("bridge:lease", {"gone:1:ab": 0})


def process(
    client: redis.Redis,
    version: str = "6.4.1",
    identity: str = "host:1:ab",
    *,
    beat: float | None = None,
    quiet: str = "false",
    lease: bool = False,
    capsules: int = 1,
) -> None:
    info = {
        "hostname": "host", "pid": 1, "identity": identity, "version": version, "queues": ["default"],
        "capsules": {f"c{i}": {} for i in range(capsules)}, "started_at": time.time(), "concurrency": 5,
    }  # fmt: skip
    row = {"info": json.dumps(info), "beat": beat or time.time(), "quiet": quiet, "busy": 0}
    client.sadd("processes", identity)
    client.hset(identity, mapping=row)
    if lease:
        client.zadd("bridge:lease", {identity: (time.time() + 60) * 1000})


@contextmanager
def redis_with(directory: Path, *arguments: str) -> Iterator[RedisServer]:
    server = RedisServer(directory, "--save", "", *arguments)
    try:
        yield server
    finally:
        server.stop()
