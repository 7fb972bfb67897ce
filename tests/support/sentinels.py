"""A master, a replica and three sentinels, all real."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.support.processes import Process, free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

MASTER = "mymaster"
DOWN_AFTER_MS = 1000


class Sentinels:
    """Two servers of which one is the master, and who agrees on which."""

    def __init__(self, directory: Path, password: str = "") -> None:
        """``password`` is that of the sentinels; the servers have none."""
        self.password = password
        self.servers = [_server(directory, "one"), _server(directory, "two")]
        with self.servers[1].client() as client:
            client.replicaof("127.0.0.1", self.servers[0].port)
        self.ports = [free_port() for _ in range(3)]
        self.processes = [_sentinel(directory, port, self.servers[0].port, password) for port in self.ports]
        wait_for(self._agree, "three sentinels that know each other and the replica", 30)

    @property
    def url(self) -> str:
        """As the bridge's settings take it."""
        return f"sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{MASTER}/0"

    @property
    def master(self) -> RedisServer:
        """The server that the sentinels name at present."""
        _, port = self._ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return next(server for server in self.servers if server.port == int(port))

    def fail_over(self) -> None:
        """A planned failover: the old master lives on as a replica."""
        self._ask("SENTINEL", "FAILOVER", MASTER)

    def writable(self) -> bool:
        """Whether the master that is named takes writes."""
        with self.master.client(socket_timeout=1) as client:
            try:
                return bool(client.info("replication")["role"] == "master")
            except redis.RedisError:
                return False

    def stop(self) -> None:
        for process in self.processes:
            process.stop(5)
        for server in self.servers:
            server.stop()

    def _ask(self, *words: str) -> list[str]:
        with redis.Redis(port=self.ports[0], password=self.password or None, decode_responses=True) as client:
            found: list[str] = client.execute_command(*words)
            return found

    def _agree(self) -> bool:
        for port in self.ports:
            with redis.Redis(port=port, password=self.password or None) as client:
                try:
                    state = client.sentinel_master(MASTER)
                except redis.RedisError:
                    return False
                if state["num-other-sentinels"] != 2 or state["num-slaves"] != 1:
                    return False
        return True


def _server(directory: Path, name: str) -> RedisServer:
    place = directory / name
    place.mkdir()
    return RedisServer(place, "--appendonly", "yes", "--repl-diskless-sync-delay", "0")


def _sentinel(directory: Path, port: int, master_port: int, password: str) -> Process:
    place = directory / f"sentinel-{port}"
    place.mkdir()
    configuration = place / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {place}\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {master_port} 2\n"
        f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {MASTER} 5000\n"
        + (f"requirepass {password}\nsentinel sentinel-pass {password}\n" if password else "")
    )
    return Process(f"sentinel-{port}", ["redis-server", configuration, "--sentinel"], place)
