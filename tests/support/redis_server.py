"""A private redis-server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from tests.support import redis_users
from tests.support.processes import Process, free_port

#: Every server that runs now.
RUNNING: list[RedisServer] = []


class RedisServer:
    """A redis-server on a free port of loopback; without persistence unless ``arguments`` say otherwise."""

    def __init__(
        self, directory: Path, *arguments: str, port: int | None = None, wrapper: tuple[str, ...] = ()
    ) -> None:
        self.directory = directory
        self.wrapper = wrapper
        self.arguments = arguments
        self.port = port or free_port()
        self.start()

    @property
    def url(self) -> str:
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, or start it again on the same port with the same files."""
        command = [
            *self.wrapper,
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.directory),
        ]
        command += self.arguments or ("--save", "", "--appendonly", "no")
        self.process = Process("redis", command, self.directory)
        self.process.wait_ready(self._answers, 15)
        with self.client() as client:
            redis_users.make(client)
        if self not in RUNNING:
            RUNNING.append(self)

    def client(self, database: int = 0, **options: Any) -> redis.Redis:
        """A client that gives bytes."""
        return redis.Redis(port=self.port, db=database, **options)

    def stop(self) -> None:
        self.process.stop(5)
        if self in RUNNING:
            RUNNING.remove(self)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
