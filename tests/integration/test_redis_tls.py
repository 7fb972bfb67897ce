"""Redis over TLS, by a private CA and with client certificates, as the user of deploy/redis."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import redis_users
from tests.support.certificates import Authority, Pair
from tests.support.command import Bridge
from tests.support.processes import ROOT, Process, clean_environment, free_port
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.support.worker_process import CELERY, bridge_environment

NAME = "sidekiq-bridge"


@dataclass(frozen=True)
class Secure:
    """A Redis with two doors: one in clear for the test, one with TLS that asks for a certificate."""

    server: RedisServer
    port: int
    authority: Authority
    client: Pair

    def environment(self, **changes: str) -> dict[str, str]:
        """The settings of one who may come in."""
        user = f"{redis_users.CONTROL}:{redis_users.PASSWORD}"
        own = {
            "BRIDGE_REDIS_URL": f"rediss://{user}@127.0.0.1:{self.port}/0",
            "BRIDGE_REDIS_CA": str(self.authority.cert),
            "BRIDGE_REDIS_CERT": str(self.client.cert),
            "BRIDGE_REDIS_KEY": str(self.client.key),
        }
        return {**own, **changes}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    directory = tmp_path_factory.mktemp("redis-tls")
    authority, port = Authority(directory), free_port()
    own = authority.issue("redis")
    options = ["--save", "", "--tls-port", port, "--tls-ca-cert-file", authority.cert]
    options += ["--tls-cert-file", own.cert, "--tls-key-file", own.key]
    server = RedisServer(directory, *map(str, options))
    yield Secure(server, port, authority, authority.issue("worker"))
    server.stop()


@pytest.fixture(scope="module")
def stage(secure: Secure, ruby_root: RubyRoot) -> Iterator[Stage]:
    made = Stage(secure.server, ruby_root)
    try:
        made.start_sidecar()
        # So long that a job which is taken soon was not found by looking.
        made.start_worker(env=secure.environment(BRIDGE_POLL_INTERVAL_SECONDS="60"))
        yield made
    finally:
        made.stop()


def test_jobs_of_both_kinds_are_taken_at_once_and_settled(stage: Stage) -> None:
    stage.reset()
    for _ in range(20):
        for name in ("EchoJob", "NativeEchoJob"):
            stage.ledger.wait_for("done", stage.push_job({"class": name, "args": ["x" * 20_000]}), seconds=10)
    stage.push_job({"class": "NativeFailJob", "retry": True})
    pushing = stage.push_job({"class": "NativePushJob", "args": ["EchoJob"]})
    stage.ledger.wait_for("done", pushing)
    stage.wait_counters(43, 1)
    assert stage.redis.zcard("retry") == 1


def test_many_big_jobs_come_in_one_answer(stage: Stage) -> None:
    # What TLS has decrypted and nobody has read yet makes no socket readable.
    stage.reset()
    for _ in range(200):
        stage.push_job({"class": "NativeEchoJob", "args": ["x" * 20_000]})
    stage.wait_counters(200, 0)


def test_every_connection_of_the_bridge_is_encrypted(stage: Stage, secure: Secure) -> None:
    assert stage.worker is not None
    doors = {line["laddr"].rsplit(":", 1)[1] for line in stage.redis.client_list() if line["name"] == NAME}
    assert doors == {str(secure.port)}


def test_remote_control_answers(stage: Stage, secure: Secure) -> None:
    words = [CELERY, "-A", "bridge", "inspect", "ping", "--timeout", "5"]
    environment = clean_environment() | bridge_environment(stage.redis_url, None) | secure.environment()
    answer = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "pong" in answer.stdout, answer.stderr


def another_authority(secure: Secure, folder: Path) -> dict[str, str]:
    return {"BRIDGE_REDIS_CA": str(Authority(folder, "other").cert)}


def another_name(secure: Secure, folder: Path) -> dict[str, str]:
    url = secure.environment()["BRIDGE_REDIS_URL"]
    return {"BRIDGE_REDIS_URL": url.replace("127.0.0.1", "localhost")}


def strangers_certificate(secure: Secure, folder: Path) -> dict[str, str]:
    pair = Authority(folder, "other").issue("stranger")
    return {"BRIDGE_REDIS_CERT": str(pair.cert), "BRIDGE_REDIS_KEY": str(pair.key)}


def in_clear(secure: Secure, folder: Path) -> dict[str, str]:
    return {"BRIDGE_REDIS_URL": secure.environment()["BRIDGE_REDIS_URL"].replace("rediss:", "redis:")}


@pytest.mark.parametrize("wrong", [another_authority, another_name, strangers_certificate, in_clear])
def test_whoever_cannot_be_verified_is_refused_in_words(
    secure: Secure, tmp_path: Path, wrong: object
) -> None:
    assert callable(wrong)
    answer = Bridge(secure.environment(**wrong(secure, tmp_path)))("status")
    assert answer.code != 0
    assert "Redis" in answer.err
    assert redis_users.PASSWORD not in answer.out + answer.err
    if wrong in (another_authority, another_name):
        assert "certificate verify failed" in answer.err.lower()


def test_a_worker_takes_nothing_from_a_redis_that_it_cannot_verify(secure: Secure, tmp_path: Path) -> None:
    environment = bridge_environment(secure.server.url, None) | secure.environment()
    environment["BRIDGE_REDIS_CA"] = str(Authority(tmp_path, "other").cert)
    words = [CELERY, "-A", "bridge", "worker", "-Q", "locked"]
    with secure.server.client() as client:
        client.lpush("queue:locked", '{"class":"NativeEchoJob","args":[],"jid":"1"}')
        worker = Process("doubting", words, tmp_path, env=environment)
        try:
            wait_for(lambda: "certificate verify failed" in worker.log.lower(), "the reason in its log", 30)
            assert client.llen("queue:locked") == 1
            assert redis_users.PASSWORD not in worker.log
        finally:
            worker.stop()
            client.delete("queue:locked")
