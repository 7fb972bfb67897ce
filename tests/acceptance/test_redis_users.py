"""The life of jobs, remote control and Flower under the published users of Redis; all else is denied."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support import census, redis_users
from tests.support.command import Bridge
from tests.support.processes import ROOT, Process, clean_environment, free_port
from tests.support.redis_server import RedisServer
from tests.support.redis_users import CONTROL, PASSWORD, WORKER
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.support.worker_process import CELERY, bridge_environment

USERS = [WORKER, CONTROL]


@pytest.fixture(scope="module", params=USERS)
def stage(
    request: pytest.FixtureRequest, ruby_root: RubyRoot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A worker under one of the users, on a Redis of its own; Ruby's side keeps the app's rights."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    made = Stage(server, ruby_root)
    try:
        made.start_sidecar()
        made.start_worker(
            env={
                "BRIDGE_REDIS_URL": redis_users.url_for(server.url, request.param),
                "BRIDGE_REMOTE_CONTROL": "true" if request.param == CONTROL else "false",
                "BRIDGE_METRICS_FAMILY": "both",
            }
        )
        yield made
        assert redis_users.denied(made.redis) == []
    finally:
        made.stop()
        server.stop()


@pytest.fixture
def as_control(stage: Stage, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a tool that may use remote control."""
    url = redis_users.url_for(stage.redis_url, CONTROL)
    return clean_environment() | bridge_environment(url, None)


def test_jobs_of_every_outcome_live_their_life(stage: Stage) -> None:
    stage.reset()
    done = [stage.push_job({"class": name, "args": [1]}) for name in ("EchoJob", "NativeEchoJob")]
    retried = [stage.push_job({"class": name, "retry": True}) for name in ("FailJob", "NativeFailJob")]
    dead = [stage.push_job({"class": name, "retry": 0}) for name in ("FailJob", "NativeFailJob")]
    for jid in done:
        stage.ledger.wait_for("done", jid)
    wait_for(lambda: stage.redis.zcard("retry") == 2, "the retries")
    wait_for(lambda: stage.redis.zcard("dead") == 2, "the dead")
    stage.make_due("retry")
    for jid in retried:
        stage.ledger.wait_for("failed", jid, times=2)
    slow = stage.push_job({"class": "SleepJob", "args": [2]})
    stage.ledger.wait_for("started", slow)
    wait_for(lambda: list(stage.redis.scan_iter("*:work*")), "its row on the Busy page")
    stage.ledger.wait_for("done", slow)
    wait_for(lambda: list(stage.redis.scan_iter("*|*")), "the Metrics page's keys", 20)
    assert len(dead) == 2
    census.assert_each_in_one_place(stage.redis)


def test_a_dead_workers_jobs_are_recovered(stage: Stage) -> None:
    stage.reset()
    payload = json.dumps({"class": "EchoJob", "jid": "orphan", "args": []}).encode()
    stage.redis.hset("bridge:inflight:gone:1:aaaaaaaaaaaa", "1", b"1\ndefault\n" + payload)
    stage.redis.zadd("bridge:lease", {"gone:1:aaaaaaaaaaaa": 0})
    stage.ledger.wait_for("done", "orphan", seconds=30)


def test_signals_of_the_web_ui_arrive(stage: Stage) -> None:
    stage.reset()
    assert stage.worker is not None
    identity = stage.worker.identity
    stage.redis.lpush(f"{identity}-signals", "TTIN")
    wait_for(lambda: stage.redis.llen(f"{identity}-signals") == 0, "the signal to be taken")


def test_python_pushes_and_cancels(stage: Stage, as_control: dict[str, str]) -> None:
    stage.reset()
    code = "from bridge import app; print(app.send_task('EchoJob', args=[1], countdown=1).id)"
    answer = subprocess.run(
        [CELERY.with_name("python"), "-c", code], env=as_control, cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    stage.ledger.wait_for("done", answer.stdout.strip())


def test_remote_control_reaches_who_may_be_reached(stage: Stage, as_control: dict[str, str]) -> None:
    assert stage.worker is not None
    answer = subprocess.run(
        [CELERY, "-A", "bridge", "inspect", "ping", "--timeout", "3"],
        env=as_control, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    reachable = "mingle" not in stage.worker.log and "pong" in answer.stdout
    assert reachable == (redis_users.url_for(stage.redis_url, CONTROL) in _environment_of(stage))


def test_the_doctor_finds_these_rights_enough(stage: Stage) -> None:
    # It tried keys of a process under a name that no process has, and called the published users too narrow.
    assert stage.sidecar is not None
    user = CONTROL if CONTROL in _environment_of(stage) else WORKER
    settings = {
        "BRIDGE_REDIS_URL": redis_users.url_for(stage.redis_url, user),
        "BRIDGE_REMOTE_CONTROL": str(user == CONTROL),
        "BRIDGE_SIDECAR_URL": stage.sidecar.url,
    }
    assert redis_users.denied(stage.redis) == []
    assert "redis-acl" not in {finding["code"] for finding in Bridge(settings)("doctor", "--json").json}
    # What it would like to know and need not: Redis' own settings.
    assert {what for _, what in redis_users.denied(stage.redis)} <= {"config|get"}
    stage.redis.acl_log_reset()

    settings["BRIDGE_REMOTE_CONTROL"] = "true"
    found = {finding["code"] for finding in Bridge(settings)("doctor", "--json").json}
    assert ("redis-acl" in found) == (user == WORKER)
    stage.redis.acl_log_reset()


def _environment_of(stage: Stage) -> str:
    assert stage.worker is not None
    return Path(f"/proc/{stage.worker.pid}/environ").read_text(errors="replace")


def test_flower_shows_the_worker_and_its_queues(
    stage: Stage, as_control: dict[str, str], tmp_path: Path
) -> None:
    if redis_users.url_for(stage.redis_url, CONTROL) not in _environment_of(stage):
        pytest.skip("a worker without remote control does not show in Flower")
    port = free_port()
    words = [CELERY, "-A", "bridge", "flower", "--address=127.0.0.1", f"--port={port}"]
    flower = Process("flower", words, tmp_path, env={**as_control, "FLOWER_BASIC_AUTH": "u:p"})
    try:
        flower.wait_ready(lambda: _get(port, "/healthcheck"), 40)
        wait_for(lambda: b'"celery@' in _get(port, "/api/workers?refresh=1"), "the worker in Flower", 30)
        stage.push_job({"class": "NativeEchoJob", "args": []})
        wait_for(lambda: b"NativeEchoJob" in _get(port, "/api/tasks"), "the job in Flower", 30)
        assert b"default" in _get(port, "/api/queues/length")
    finally:
        flower.stop()


def _get(port: int, path: str) -> bytes:
    token = base64.b64encode(b"u:p").decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Basic {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: bytes = answer.read()
            return found
    except OSError:
        return b""


#: What neither may do: read or write other applications' keys, see or change the server, run other scripts.
FORBIDDEN = [
    ("GET", "session:1"), ("SET", "session:1", "x"), ("DEL", "users"), ("KEYS", "*"), ("FLUSHALL",),
    ("FLUSHDB",), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "dir", "/tmp"), ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"), ("MONITOR",), ("SHUTDOWN",), ("DEBUG", "SLEEP", "0"), ("SAVE",),
    ("BGREWRITEAOF",), ("REPLICAOF", "127.0.0.1", "1"), ("SWAPDB", "0", "1"), ("ACL", "LIST"),
    ("ACL", "SETUSER", "x", "on"), ("FUNCTION", "LOAD", "#!lua name=x\n"), ("SCRIPT", "FLUSH"),
    ("MIGRATE", "127.0.0.1", "1", "queues", "0", "1"), ("RESTORE", "queues", "0", "x"), ("SORT", "queues"),
    ("EVAL", "return redis.call('GET', 'session:1')", "0"), ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("PUBLISH", "session", "x"), ("SUBSCRIBE", "session"), ("MODULE", "LIST"), ("SLOWLOG", "GET"),
]  # fmt: skip


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("command", FORBIDDEN, ids=lambda command: " ".join(command)[:40])
def test_everything_else_is_denied(redis_server: RedisServer, user: str, command: tuple[str, ...]) -> None:
    client = redis_server.client(username=user, password=PASSWORD)
    with client, pytest.raises(redis.ResponseError, match=r"(?i)permission|can't|NOPERM|not allowed"):
        client.execute_command(*command)
    with redis_server.client() as admin:
        admin.acl_log_reset()


def test_the_page_says_what_the_file_grants() -> None:
    page = (ROOT / "deploy/redis/README.md").read_text()
    assert set(re.findall(r"^### `([a-z-]+)`", page, re.M)) == set(USERS)
    granted = set(redis_users.rules(CONTROL)) - set(redis_users.rules(WORKER))
    assert {word for word in granted if word.startswith("+")} == {
        "+psubscribe", "+punsubscribe",
    }  # fmt: skip
    channels = {word for word in redis_users.rules(WORKER) if word.startswith("&")}
    assert channels == {"&bridge:result:*", "&status_updates"}
