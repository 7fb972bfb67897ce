"""Redis behind a Unix socket, and Sentinels with a password of their own.

Neither worked, and limits.md did not say so: with a password of the sentinels the worker waited without end.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.command import Bridge
from tests.support.ledger import Ledger
from tests.support.processes import ROOT, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.sentinels import Sentinels
from tests.support.waiting import wait_for
from tests.support.worker_process import CELERY, WorkerProcess, bridge_environment

SECRET = "s3cret/of@sentinels"


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    made = Sentinels(tmp_path, SECRET)
    yield made
    made.stop()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis with a Unix socket too, and a password."""
    server = RedisServer(tmp_path, "--unixsocket", str(tmp_path / "r.sock"), "--save", "")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "own", "on", ">p/w@d", "~*", "&*", "+@all")
    yield server
    server.stop()


def one_of_each(directory: Path, url: str, env: dict[str, str], client: redis.Redis, look_at: str) -> str:
    """A worker, a push, the command line, doctor, Celery's own command and the keeper; the worker's log."""
    ledger = Ledger(directory / "ledger")
    settings = {"BRIDGE_REDIS_URL": url, "BRIDGE_SIDECAR_URL": f"unix://{directory}/none.sock", **env}
    more = {**settings, "TEST_LEDGER_HOST": str(ledger.path)}
    worker = WorkerProcess(directory, look_at, settings["BRIDGE_SIDECAR_URL"], env=more)

    # The command line pushes, and reads
    bridge = Bridge(settings)
    jid = bridge("push", "NativeEchoJob", "[]").well().out.strip()
    ledger.wait_for("done", jid)
    assert "NativeFailJob" not in bridge("queues").well().out
    assert "redis-" not in {found["code"] for found in bridge("doctor", "--json").json}

    # Celery's own command reaches the worker
    words = [CELERY, "-A", "bridge", "inspect", "ping", "--timeout", "3"]
    answer = subprocess.run(
        words,
        env={**clean_environment(), "PYTHONPATH": str(ROOT), **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "pong" in answer.stdout, answer.stderr

    # The keeper renews the lease while the worker's own thread is stopped by a frozen worker
    held = client.zscore("bridge:lease", worker.identity)
    wait_for(lambda: client.zscore("bridge:lease", worker.identity) != held, "the lease to be renewed")
    waiting = ledger.path.parent / "gate-open"
    client.lpush("queue:default", json.dumps({"class": "NativeGateJob", "args": ["open"], "jid": "a" * 24}))
    ledger.wait_for("started", "a" * 24)

    # A worker that is killed: its keeper ends the lease, and says so by this way to Redis
    identity = worker.identity
    os.kill(worker.pid, 9)
    wait_for(lambda: client.zscore("bridge:lease", identity) == 0, "the keeper to end the lease")
    waiting.touch()
    return worker.log


@pytest.mark.parametrize("user", ["", "own:p%2Fw%40d@"])
def test_a_redis_behind_a_unix_socket_is_served(served: RedisServer, tmp_path: Path, user: str) -> None:
    url = f"unix://{user}{tmp_path}/r.sock?db=2"
    with served.client(2) as client:
        log = one_of_each(tmp_path, url, {}, client, served.url_of(2))

    assert f"Connected to redis+socket://{'***@' if user else ''}{tmp_path}/r.sock?virtual_host=2" in log
    assert "p/w@d" not in log


def test_sentinels_with_a_password_of_their_own_are_asked(sentinels: Sentinels, tmp_path: Path) -> None:
    with sentinels.master.client() as client:
        env = {"BRIDGE_REDIS_SENTINEL_PASSWORD": SECRET}
        log = one_of_each(tmp_path, sentinels.url, env, client, sentinels.master.url)

    assert SECRET not in log


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_password_that_the_sentinels_refuse_is_named(
    sentinels: Sentinels, tmp_path: Path, password: str
) -> None:
    # The worker waited without end, and said that Redis was away.
    env = {
        **clean_environment(),
        **bridge_environment(sentinels.url, None),
        "BRIDGE_REDIS_URL": sentinels.url,
    }
    env["BRIDGE_REDIS_SENTINEL_PASSWORD"] = password

    done = subprocess.run(
        [CELERY, "-A", "bridge", "worker"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 77
    assert "refuse this user or password" in done.stderr
    assert "write theirs into BRIDGE_REDIS_SENTINEL_PASSWORD" in done.stderr
