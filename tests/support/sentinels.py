"""A master, a replica and three sentinels, all real."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from tests.support.certificates import Authority, Pair
from tests.support.processes import Process, free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

MASTER = "mymaster"
DOWN_AFTER_MS = 1000


class Sentinels:
    """Two servers of which one is the master, and who agrees on which."""

    def __init__(self, directory: Path, password: str = "", authority: Authority | None = None) -> None:
        """``password`` is that of the sentinels; the servers have none. ``authority``: all speak TLS.

        The servers have a port in clear beside it, for the test.
        """
        self.password = password
        self.pair = authority and authority.issue("sentinels")
        self._tls = {} if self.pair is None or authority is None else _tls_options(authority, self.pair)
        self.servers = [_server(directory, name, self._tls) for name in ("one", "two")]
        self._ports = [server.tls_port or server.port for server in self.servers]
        with self.servers[1].client() as client:
            client.replicaof("127.0.0.1", self._ports[0])
        self.ports = [free_port() for _ in range(3)]
        self.processes = [
            _sentinel(directory, port, self._ports[0], password, self._tls) for port in self.ports
        ]
        wait_for(self._agree, "three sentinels that know each other and the replica", 30)

    @property
    def url(self) -> str:
        """As the bridge's settings take it."""
        scheme = "sentinels" if self._tls else "sentinel"
        return f"{scheme}://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{MASTER}/0"

    @property
    def files(self) -> dict[str, str]:
        """The settings that name the files for TLS."""
        names = {"CA": "tls-ca-cert-file", "CERT": "tls-cert-file", "KEY": "tls-key-file"}
        return {f"BRIDGE_REDIS_{name}": self._tls[file] for name, file in names.items()} if self._tls else {}

    @property
    def master(self) -> RedisServer:
        """The server that the sentinels name at present."""
        _, port = self._ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return self.servers[self._ports.index(int(port))]

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
        with self._client(self.ports[0], decode_responses=True) as client:
            found: list[str] = client.execute_command(*words)
            return found

    def _client(self, port: int, **options: Any) -> redis.Redis:
        tls = self._tls and {
            "ssl": True,
            "ssl_ca_certs": self._tls["tls-ca-cert-file"],
            "ssl_certfile": self._tls["tls-cert-file"],
            "ssl_keyfile": self._tls["tls-key-file"],
        }
        return redis.Redis("127.0.0.1", port, password=self.password or None, **options, **tls)

    def _agree(self) -> bool:
        for port in self.ports:
            with self._client(port) as client:
                try:
                    state = client.sentinel_master(MASTER)
                except redis.RedisError:
                    return False
                if state["num-other-sentinels"] != 2 or state["num-slaves"] != 1:
                    return False
        return True


class _Server(RedisServer):
    tls_port = 0


def _tls_options(authority: Authority, pair: Pair) -> dict[str, str]:
    files = {"ca-cert": authority.cert, "cert": pair.cert, "key": pair.key}
    return {f"tls-{name}-file": str(path) for name, path in files.items()} | {"tls-replication": "yes"}


def _server(directory: Path, name: str, tls: Mapping[str, str]) -> _Server:
    place = directory / name
    place.mkdir()
    port = free_port() if tls else 0
    options = {"appendonly": "yes", "repl-diskless-sync-delay": "0"}
    options |= {**tls, "tls-port": str(port)} if tls else {}
    made = _Server(place, *(word for name, value in options.items() for word in (f"--{name}", value)))
    made.tls_port = port
    return made


def _sentinel(directory: Path, port: int, master_port: int, password: str, tls: Mapping[str, str]) -> Process:
    place = directory / f"sentinel-{port}"
    place.mkdir()
    configuration = place / "sentinel.conf"
    configuration.write_text(
        (f"port 0\ntls-port {port}\n" if tls else f"port {port}\n")
        + "".join(f"{name} {value}\n" for name, value in tls.items())
        + f"bind 127.0.0.1\ndir {place}\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {master_port} 2\n"
        f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {MASTER} 5000\n"
        + (f"requirepass {password}\nsentinel sentinel-pass {password}\n" if password else "")
    )
    return Process(f"sentinel-{port}", ["redis-server", configuration, "--sentinel"], place)
