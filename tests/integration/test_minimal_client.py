"""The keeper's own connection: what redis-py would do, with real servers on the other side."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis._parsers.base import BaseParser

from bridge import errors
from bridge.redis.address import RedisAddress
from bridge.redis.minimal_client import MinimalRedis
from bridge.redis.outages import is_outage
from bridge.sidekiq.store import lua
from tests.support import redis_users
from tests.support.certificates import Authority
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer
from tests.support.sentinels import MASTER, Sentinels
from tests.support.waiting import wait_for


@pytest.fixture
def small(own_server: RedisServer) -> Iterator[MinimalRedis]:
    made = MinimalRedis(RedisAddress(port=own_server.port, database=3, timeout_seconds=0.5))
    yield made
    made.close()


def test_commands_reach_their_database_under_our_name(small: MinimalRedis, own_server: RedisServer) -> None:
    small.call("SET", "key", b"\x00\xff\r\n")
    assert small.call("GET", "key") == b"\x00\xff\r\n"

    client = own_server.client(3)
    assert client.get("key") == b"\x00\xff\r\n"
    assert "sidekiq-bridge" in [found["name"] for found in client.client_list()]


def test_a_script_is_taught_where_redis_does_not_know_it_or_has_forgotten(
    small: MinimalRedis, own_server: RedisServer
) -> None:
    known = lua.load("lease_renew")
    renew = (known.sha.decode(), known.text.decode())
    for _ in range(2):
        assert small.run(renew, ["bridge:lease"], "host:1", 1000, "register") > 0
        own_server.client().script_flush()


def test_what_is_refused_for_good_and_what_is_an_outage_are_told_apart(
    small: MinimalRedis, own_server: RedisServer
) -> None:
    small.call("SET", "key", "text")
    with pytest.raises(errors.StoreError, match="WRONGTYPE") as wrong:
        small.call("LPUSH", "key", "x")
    assert not isinstance(wrong.value, errors.StoreUnavailable)

    with own_server.client() as client:
        client.replicaof("127.0.0.1", free_port())
        with pytest.raises(errors.StoreUnavailable, match="READONLY"):
            small.call("SET", "key", "other")
        known = lua.load("lease_renew")
        with pytest.raises(errors.StoreUnavailable, match="READONLY"):
            small.run((known.sha.decode(), known.text.decode()), ["bridge:lease"], "host:1", 1000, "register")
        client.execute_command("REPLICAOF", "NO", "ONE")
    small.call("SET", "key", "other")


def test_too_many_clients_are_an_outage(small: MinimalRedis, own_server: RedisServer) -> None:
    with own_server.client() as client:
        client.config_set("maxclients", 1)
        with pytest.raises(errors.StoreUnavailable, match=r"max number of clients|closed|reset|Broken pipe"):
            small.call("PING")
        client.config_set("maxclients", 100)
    assert small.call("PING") == b"PONG"


def test_a_server_that_was_started_anew_costs_no_command(
    small: MinimalRedis, own_server: RedisServer
) -> None:
    assert small.call("PING") == b"PONG"
    own_server.stop()
    own_server.start()

    assert small.call("PING") == b"PONG"


def test_a_server_that_is_away_or_says_nothing_is_an_outage_in_time(
    small: MinimalRedis, own_server: RedisServer
) -> None:
    own_server.process.kill()
    with pytest.raises(errors.StoreUnavailable, match="refused"):
        small.call("PING")

    with socket.create_server(("127.0.0.1", own_server.port)):
        begun = time.monotonic()
        with pytest.raises(errors.StoreUnavailable, match="timed out"):
            small.call("PING")
        assert time.monotonic() - begun < 3.0


def test_what_is_no_redis_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer_as_a_web_server, args=(listener,), daemon=True).start()
        small = MinimalRedis(RedisAddress(port=listener.getsockname()[1], timeout_seconds=1.0))
        with pytest.raises(errors.StoreUnavailable, match="Protocol error"):
            small.call("PING")


def _answer_as_a_web_server(listener: socket.socket) -> None:
    client, _ = listener.accept()
    with client:
        client.recv(9)
        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        client.recv(999)


@pytest.mark.parametrize("user", [None, "somebody"])
def test_passwords_with_and_without_a_user(own_server: RedisServer, user: str | None) -> None:
    with own_server.client() as client:
        client.execute_command("ACL", "SETUSER", "somebody", "on", ">right", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">right")
    address = RedisAddress(port=own_server.port, username=user, password="right", database=1)

    assert MinimalRedis(address).call("PING") == b"PONG"
    for wrong in (address.but(password="wrong"), RedisAddress(port=own_server.port)):
        with pytest.raises(errors.StoreError, match=r"WRONGPASS|NOAUTH") as refused:
            MinimalRedis(wrong).call("PING")
        assert not isinstance(refused.value, errors.StoreUnavailable), "no waiting helps"


def test_tls_is_verified_and_shows_our_certificate(tmp_path: Path) -> None:
    authority, stranger, port = Authority(tmp_path), Authority(tmp_path, "stranger"), free_port()
    own, ours = authority.issue("redis"), authority.issue("worker")
    options = ["--save", "", "--tls-port", port, "--tls-ca-cert-file", authority.cert]
    server = RedisServer(
        tmp_path, *map(str, [*options, "--tls-cert-file", own.cert, "--tls-key-file", own.key])
    )
    try:
        address = RedisAddress(
            port=port,
            tls=True,
            ca=str(authority.cert),
            cert=str(ours.cert),
            key=str(ours.key),
            username=redis_users.WORKER,
            password=redis_users.PASSWORD,
        )
        known = lua.load("lease_renew")
        renew = (known.sha.decode(), known.text.decode())
        assert MinimalRedis(address).run(renew, ["bridge:lease"], "host:1", 1000, "register") > 0

        refused = {"ca": str(stranger.cert)}, {"cert": None, "key": None}, {"host": "localhost"}
        for change in refused:
            with pytest.raises(errors.StoreUnavailable):
                MinimalRedis(address.but(**change)).call("EVALSHA", renew[0], 0)
    finally:
        server.stop()


def test_the_master_that_sentinels_name_is_followed(tmp_path: Path) -> None:
    sentinels = Sentinels(tmp_path)
    try:
        where = [("127.0.0.1", free_port()), *(("127.0.0.1", port) for port in sentinels.ports)]
        small = MinimalRedis(RedisAddress(sentinels=where, master=MASTER))
        small.call("SET", "key", "one")
        old = sentinels.master
        assert old.client().get("key") == b"one"
        with old.client() as client:
            wait_for(lambda: client.wait(1, 1000) == 1, "the replica's copy")

        sentinels.fail_over()
        wait_for(lambda: sentinels.master is not old and sentinels.writable(), "another master", 40)
        wait_for(lambda: _written(small), "a write to a master")
        wait_for(lambda: sentinels.master.client().get("key") == b"two" or _written(small), "at the new one")
        assert small.call("ROLE")[0] in (b"master", b"slave")

        with pytest.raises(errors.StoreUnavailable, match="no sentinel names a master"):
            MinimalRedis(RedisAddress(sentinels=where, master="another")).call("PING")
    finally:
        sentinels.stop()


def _written(small: MinimalRedis) -> bool:
    try:
        return bool(small.call("SET", "key", "two") == b"OK")
    except errors.StoreUnavailable:
        return False


def test_the_keeper_loads_nothing_large() -> None:
    """It had 25 MB, of which 20 were redis-py with asyncio."""
    code = (
        "import sys, bridge.sidekiq.lease.keeper_main\n"
        "print(*{'redis', 'asyncio', 'ssl', 'logging', 'dataclasses', 'subprocess'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize(
    "text",
    [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "BUSY Redis is busy running a script.",
        "MASTERDOWN Link with MASTER is down",
        "NOREPLICAS Not enough good replicas to write.",
        "ERR max number of clients reached",
        "ERR Error running script (call to f_1): @user_script:9: -READONLY You can't write.",
        "ERR Error running script (call to f_1): @user_script:9: WRONGTYPE Operation",
        "ERR unknown command 'X'",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "NOAUTH Authentication required.",
        "NOPERM User x has no permissions to run the 'set' command",
    ],
)
def test_the_worker_and_its_keeper_agree_which_errors_are_an_outage(text: str) -> None:
    ours = MinimalRedis(RedisAddress())._refused(text)
    assert isinstance(ours, errors.StoreUnavailable) == is_outage(BaseParser.parse_error(text))
