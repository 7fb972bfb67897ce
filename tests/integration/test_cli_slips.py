"""What people type by mistake: each is answered with what to write, and nothing is done."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import redis

from tests.support.command import Bridge
from tests.support.processes import ROOT, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.worker_process import CELERY

EX_CONFIG, EX_NOPERM = 78, 77


@pytest.fixture
def bridge(redis_server: RedisServer, empty_redis: redis.Redis) -> Bridge:
    return Bridge({"BRIDGE_REDIS_URL": redis_server.url_of(15), "BRIDGE_HEALTH_BIND": "127.0.0.1:0"})


def push(client: redis.Redis, queue: str) -> None:
    client.sadd("queues", queue)
    client.lpush(f"queue:{queue}", json.dumps({"class": "EchoJob", "args": [], "jid": "a" * 24}))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dokter",), "did you mean doctor?"),
        (("status", "--interval", "-5"), "--interval"),
        (("status", "--watch", "--interval", "nan"), "--interval"),
        # `--limit -3` once ended in a traceback of itertools.
        (("jobs", "list", "retry", "--limit", "-3"), "--limit"),
        (("jobs", "list", "retrys"), "did you mean retry?"),
        (("jobs", "list", "default"), "did you mean queue:default?"),
        (("jobs", "delete", "retry", "--all", "--class", "EchoJob"), "--all means every job of retry"),
        (("jobs", "cancel", "a", "--yes", "--wait", "-1"), "--wait"),
        (("pause", "a b"), "cannot be the name of a queue"),
        (("push", "EchoJob", "--qeue", "low"), "no such option: --qeue"),
        (("push", "EchoJob", "--set", "retry=abc"), "--set retry=abc: 'abc' is not JSON"),
        (("push", "EchoJob", "--set", "retry=-1"), "write true, false or a number of retries"),
        (("push", "EchoJob", "--set", 'retry="x"'), "write true, false or a number of retries"),
        (("push", "EchoJob", "--set", 'tags="x"'), "write a list"),
        (("quiet", "--all", "host:1:ab"), "one of the two"),
        (("quiet", "--sidekiq", "host:1:ab"), "--sidekiq goes with --all"),
        (("verify", "--timeout", "0"), "--timeout"),
    ],
)
def test_a_slip_is_refused_with_what_to_write(
    bridge: Bridge, empty_redis: redis.Redis, words: tuple[str, ...], said: str
) -> None:
    answer = bridge(*words)

    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert empty_redis.dbsize() == 0


def test_a_number_below_zero_is_an_argument(bridge: Bridge, empty_redis: redis.Redis) -> None:
    bridge("push", "EchoJob", "-5", "-1.5e3").well()

    assert json.loads(empty_redis.lindex("queue:default", 0))["args"] == [-5, -1500.0]


def test_a_queue_that_nobody_knows_is_said_so(bridge: Bridge, empty_redis: redis.Redis) -> None:
    push(empty_redis, "reports")

    assert "did you mean reports?" in bridge("pause", "queue:reports").err
    assert "no queue nowhere is known yet" in bridge("jobs", "list", "queue:nowhere").well().err
    assert "no process serves queue reports at present" in bridge("push", "EchoJob", "--queue", "reports").err
    assert bridge("jobs", "list", "queue:reports").well().err == ""


def test_one_is_written_as_one_and_two_as_many(bridge: Bridge, empty_redis: redis.Redis) -> None:
    push(empty_redis, "low")

    assert "1 job in queue:low" in bridge("jobs", "list", "queue:low").out
    assert "Delete 1 job of queue:low?" in bridge("jobs", "delete", "queue:low", "--all", typed="n\n").err
    push(empty_redis, "low")
    assert "2 jobs in queue:low" in bridge("jobs", "list", "queue:low").out


def test_the_payload_of_a_job_is_shown_whole(bridge: Bridge, empty_redis: redis.Redis) -> None:
    # The table cut it to the width of the terminal.
    job = json.dumps({"class": "EchoJob", "args": ["x" * 1000], "jid": "a" * 24})
    empty_redis.sadd("queues", "low")
    empty_redis.lpush("queue:low", job)

    assert job in bridge("jobs", "show", "a" * 24).well().out


def test_verify_names_a_queue_that_no_worker_serves(bridge: Bridge, empty_redis: redis.Redis) -> None:
    info = {"hostname": "h", "pid": 1, "identity": "h:1:ab", "queues": ["default"]}
    empty_redis.sadd("processes", "h:1:ab")
    empty_redis.hset("h:1:ab", mapping={"info": json.dumps(info), "beat": 1, "quiet": "false"})
    empty_redis.zadd("bridge:lease", {"h:1:ab": 1})

    answer = bridge("verify", "--queue", "reports")

    assert answer.code == 2
    assert "no worker serves it; they serve default" in answer.err


WORKERS: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "a module that is not there": (
        {"BRIDGE_IMPORTS": "json,nosuch.tasks"}, (), "BRIDGE_IMPORTS names nosuch.tasks: no such module",
    ),
    "a pool that is not there": ({"BRIDGE_POOL": "thread"}, (), "BRIDGE_POOL=thread: this is one of bridge,"),
    # -Q critical:5 once served a queue of the name critical:5.
    "a weight in -Q": ({}, ("-Q", "critical:5,default"), "weights are written BRIDGE_QUEUES=critical:5"),
    "a name that is none in -Q": ({}, ("-Q", "a, b"), '-Q " b": the name of a queue has letters'),
    "a database that Redis has not": ({"BRIDGE_REDIS_URL": "99"}, (), "write the number of a database"),
}  # fmt: skip


@pytest.mark.parametrize("slip", WORKERS)
def test_a_worker_does_not_start_with_a_slip_and_says_what_to_write(
    redis_server: RedisServer, tmp_path: Path, slip: str
) -> None:
    settings, words, said = WORKERS[slip]
    url = redis_server.url_of(int(settings.pop("BRIDGE_REDIS_URL", 15)))
    env = {**clean_environment(), "BRIDGE_REDIS_URL": url, "BRIDGE_HEALTH_BIND": "127.0.0.1:0", **settings}

    ended = subprocess.run(
        [CELERY, "-A", "bridge", "worker", *words], env=env, capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == EX_CONFIG
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


# It ended in a traceback of a hundred lines, "Unrecoverable error", and named no setting.
@pytest.mark.parametrize("variable", ["BRIDGE_REDIS_URL", "REDIS_URL"])
def test_a_worker_whose_password_redis_refuses_says_where_it_was_written(
    redis_server: RedisServer, variable: str
) -> None:
    env = {**clean_environment(), variable: f"redis://:hunter2@127.0.0.1:{redis_server.port}/15"}

    ended = subprocess.run(
        [CELERY, "-A", "bridge", "worker"], env=env, capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == EX_NOPERM
    assert f"take the password out of {variable}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


# The port of another server ended in "Unrecoverable error" and a traceback; only doctor knew what it meant.
def test_a_worker_whose_redis_is_another_server_says_so() -> None:
    class Page(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"redis://127.0.0.1:{server.server_port}/0"
        ended = subprocess.run(
            [CELERY, "-A", "bridge", "worker"],
            env={**clean_environment(), "REDIS_URL": url}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        server.shutdown()

    assert ended.returncode == EX_CONFIG
    assert f"bridge: Redis at {url} is not a Redis server" in ended.stderr
    assert "correct the port in REDIS_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_rediss_url_is_not_said_to_be_unverified() -> None:
    # kombu warned of "insecure SSL behaviour" with every connection, though the settings always verify.
    code = "from bridge import app; app.connection_for_read(); app.pool.acquire()"
    env = {**clean_environment(), "BRIDGE_REDIS_URL": "rediss://127.0.0.1:1/0"}

    ended = subprocess.run(
        [CELERY.parent / "python", "-c", code], env=env, capture_output=True, text=True, timeout=60
    )

    assert (ended.returncode, ended.stderr) == (0, "")


# `bridge pause defalt` paused nothing that anybody serves, and said "paused".
@pytest.mark.parametrize(
    ("words", "act"),
    [(("pause", "defalt"), "pause it"), (("push", "EchoJob", "--queue", "defalt"), "push to it")],
)
def test_off_a_terminal_an_unknown_queue_is_refused_unless_yes_is_said(
    bridge: Bridge, empty_redis: redis.Redis, words: tuple[str, ...], act: str
) -> None:
    push(empty_redis, "default")

    refused, done = bridge(*words), bridge(*words, "--yes")

    assert refused.code == 2
    assert f"no queue defalt is known: did you mean default? Add --yes to {act} all the same" in refused.err
    assert (refused.out, done.code) == ("", 0)
    assert empty_redis.smembers("paused") | empty_redis.smembers("queues") == {b"default", b"defalt"}


@pytest.mark.parametrize(("typed", "code", "queued"), [("n", 1, 0), ("y", 0, 1)])
def test_on_a_terminal_an_unknown_queue_is_asked_about(
    bridge: Bridge, empty_redis: redis.Redis, typed: str, code: int, queued: int
) -> None:
    push(empty_redis, "default")
    mine, theirs = pty.openpty()
    words = [sys.executable, "-m", "bridge", "push", "EchoJob", "--queue", "defalt"]
    env = {**clean_environment(), **bridge.settings}

    process = subprocess.Popen(words, env=env, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.write(mine, f"{typed}\n".encode())

    assert process.wait(60) == code
    assert b"No queue defalt is known: did you mean default? Push to it all the same? [y/N]" in os.read(
        mine, 9999
    )
    assert empty_redis.llen("queue:defalt") == queued


def test_on_an_empty_redis_there_is_no_name_to_compare_with(bridge: Bridge, empty_redis: redis.Redis) -> None:
    bridge("push", "EchoJob", "--queue", "first").well()

    assert empty_redis.llen("queue:first") == 1
    assert "was not paused" in bridge("resume", "frist").well().out
    assert "did you mean first?" in bridge("resume", "frist").err
