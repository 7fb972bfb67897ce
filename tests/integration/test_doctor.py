"""Faults are planted for real; ``bridge doctor`` names each, with its cure."""

from __future__ import annotations

import http.server
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.command import Bridge
from tests.support.diagnosis import Seen, bury, diagnose, findings, hold, process, push, redis_with
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer
from tests.support.sidecar_process import JOBS, SidecarProcess
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for

SECRET = "s" * 32


@pytest.fixture
def bridge(redis_server: RedisServer, empty_redis: redis.Redis) -> Bridge:
    """On an empty Redis, with no probes to look for."""
    return Bridge({"BRIDGE_REDIS_URL": redis_server.url_of(15), "BRIDGE_HEALTH_BIND": "127.0.0.1:0"})


# -- settings

MISTAKES: dict[str, tuple[dict[str, str], str, str]] = {
    "an unknown name": ({"BRIDGE_QUEUS": "a"}, "BRIDGE_QUEUS", "did you mean BRIDGE_QUEUES?"),
    "a value that makes no sense": (
        {"BRIDGE_LEASE_SECONDS": "soon"},
        "BRIDGE_LEASE_SECONDS=soon",
        "write for example",
    ),
    "a file that is not there": (
        {"BRIDGE_CONFIG": "/nowhere.yml"},
        "BRIDGE_CONFIG",
        "name an existing YAML file",
    ),
    "a Redis on no known scheme": (
        {"BRIDGE_REDIS_URL": "memcached://u:hunter2@x"},
        "BRIDGE_REDIS_URL",
        "redis://",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_settings_is_named_with_what_to_write(mistake: str) -> None:
    settings, named, cure = MISTAKES[mistake]

    answer = Bridge(settings)("doctor", "--json")

    found = findings(answer)["settings"]
    assert answer.code == 1
    assert named in found.seen
    assert cure in found.seen
    assert "hunter2" not in answer.out


def test_erb_in_sidekiq_yml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sidekiq.yml"
    file.write_text(":concurrency: <%= ENV['N'] %>\n")

    assert "contains ERB" in diagnose(Bridge({"BRIDGE_CONFIG": str(file)}))["settings"].seen


def test_a_mistyped_key_and_a_missing_section_of_sidekiq_yml_are_warnings(
    bridge: Bridge, tmp_path: Path
) -> None:
    file = tmp_path / "sidekiq.yml"
    file.write_text(":concurency: 5\nproduction: {}\n")
    settings = {**bridge.settings, "BRIDGE_CONFIG": str(file), "RAILS_ENV": "prodution"}

    found = [one for one in Bridge(settings)("doctor", "--json").json if one["code"] == "config-file"]

    assert [(one["severity"], one["cure"]) for one in found] == [
        ("warning", "did you mean concurrency?"),
        ("warning", "did you mean production?"),
    ]
    assert found[0]["seen"] == f"{file}:1:concurency is not an option of Sidekiq"
    assert "no section prodution (RAILS_ENV=prodution)" in found[1]["seen"]


# -- Redis


@pytest.mark.parametrize("variable", ["BRIDGE_REDIS_URL", "REDIS_URL"])
@pytest.mark.parametrize(
    ("password", "user", "seen", "cure"),
    [
        ("", ":pw@", "has no password for this user", "take the password out of {}"),
        ("right", ":wrong@", "refuses this user or password", "that this Redis knows into {}"),
        ("right", "", "wants a password", "write it into {}"),
    ],
)
def test_a_redis_that_refuses_a_password_is_not_said_to_be_away(
    tmp_path: Path, variable: str, password: str, user: str, seen: str, cure: str
) -> None:
    with redis_with(tmp_path) as server, server.client() as client:
        client.config_set("requirepass", password)
        found = diagnose(Bridge({variable: f"redis://{user}127.0.0.1:{server.port}/0"}))["redis-away"]

    assert seen in found.seen
    assert "does not answer" not in found.seen
    assert cure.format(variable) in found.cure


def test_a_redis_that_is_away_is_an_error() -> None:
    found = diagnose(Bridge({"BRIDGE_REDIS_URL": f"redis://:hunter2@127.0.0.1:{free_port()}/0"}))[
        "redis-away"
    ]

    assert found.severity == "error"
    assert "hunter2" not in found.seen
    assert "BRIDGE_REDIS_URL" in found.cure


def test_eviction_fullness_and_missing_persistence_are_named(tmp_path: Path) -> None:
    with redis_with(tmp_path, "--maxmemory-policy", "allkeys-lru") as server, server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.2))

        found = diagnose(Bridge({"BRIDGE_REDIS_URL": server.url}))

    assert found["redis-eviction"].severity == "error"
    assert "noeviction" in found["redis-eviction"].cure
    assert "of maxmemory is used" in found["redis-memory"].seen
    assert "appendonly yes" in found["redis-persistence"].cure


def test_a_replica_is_named_with_its_master(redis_server: RedisServer, tmp_path: Path) -> None:
    with redis_with(tmp_path, "--replicaof", "127.0.0.1", str(redis_server.port)) as server:
        found = diagnose(Bridge({"BRIDGE_REDIS_URL": server.url}))["redis-replica"]

    assert str(redis_server.port) in found.cure


def test_what_the_redis_user_may_not_do_is_named_command_by_command(tmp_path: Path) -> None:
    with redis_with(tmp_path) as server, server.client() as client:
        rules = ["on", ">pw", "~*", "&*", "+@all", "-blmove", "-config", "-zadd"]
        client.execute_command("ACL", "SETUSER", "worker", *rules)
        client.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", "~queue:*", "&*", "+@all")
        url = f"127.0.0.1:{server.port}/0"

        found = diagnose(Bridge({"BRIDGE_REDIS_URL": f"redis://worker:pw@{url}"}))["redis-acl"]
        narrow = diagnose(Bridge({"BRIDGE_REDIS_URL": f"redis://narrow:pw@{url}"}))["redis-acl"]
        left = client.dbsize()

    assert "BLMOVE queue:bridge-doctor" in found.seen
    assert "ZADD retry" in found.seen
    assert "LPUSH" not in found.seen
    assert "SADD queues" in narrow.seen
    assert "LPUSH queue:" not in narrow.seen
    assert left == 0  # nothing was done, only asked


def test_a_user_who_may_do_everything_has_no_finding(bridge: Bridge, empty_redis: redis.Redis) -> None:
    assert "redis-acl" not in diagnose(bridge)
    assert empty_redis.dbsize() == 0


# -- what stands in Redis

Plant = Callable[[redis.Redis], Any]
PLANTED: dict[str, tuple[Plant, str, str]] = {
    "no-worker": (lambda r: None, "no worker of the bridge", "start `celery -A bridge worker`"),
    "unserved-queue": (lambda r: push(r, "nobody"), "no process serves it", "BRIDGE_QUEUES"),
    "notices-wait": (lambda r: r.lpush("bridge:notices", "{}"), "wait for a sidecar", "start the sidecar"),
    "foreign-orphans": (
        lambda r: r.lpush("working:queue:q:gone:1:abc", "{}"), "gitlab-sidekiq-fetcher", "bridge recover",
    ),
    "paused-queue": (lambda r: (push(r, "q"), r.sadd("paused", "q")), "queue q is paused", "bridge resume q"),
    "late-heartbeat": (lambda r: process(r, beat=time.time() - 50), "said nothing for", "bridge recover"),
    "quiet-worker": (lambda r: process(r, lease=True, quiet="true"), "is quiet", "restart it"),
    "dead-hands": (lambda r: hold(r, b"1"), "which is dead", "bridge recover"),
    "future-format": (lambda r: hold(r, b"2"), "in format 2", "newer release"),
    "namespace": (lambda r: r.sadd("shop:queues", "default"), "begin with shop:", "redis-namespace away"),
    "feature-bid": (lambda r: push(r, "q", bid="b1"), "batches", "keep these classes on Sidekiq"),
    "limiters": (lambda r: r.set("lmtr-cw-api", 1), "limiters", "native tasks do not see them"),
    "refused-classes": (lambda r: bury(r, "Bridge::JobRefused"), "Bridge::JobRefused: EchoJob", "--allow"),
    "feature-unique-for": (lambda r: push(r, "q", unique_for=60), "unique jobs", "takes none"),
    "feature-encrypt": (lambda r: push(r, "q", encrypt=True), "encrypted arguments", "do not move these"),
    "invalid-payloads": (
        lambda r: bury(r, "Bridge::InvalidPayload"), "Bridge::InvalidPayload: EchoJob", "the original is in",
    ),
    "poison-pills": (lambda r: bury(r, "Bridge::PoisonPill"), "Bridge::PoisonPill: EchoJob", "memory"),
    "foreign-key": (lambda r: r.set("retry", "x"), "the key retry is a string", "RENAME"),
    "long-wait": (
        lambda r: (process(r), push(r, "default", enqueued_at=time.time() - 1000)),
        "has waited 17 min", "more workers",
    ),
    "mixed-versions": (
        lambda r: (process(r), process(r, "8.1.0", "other:2:cd")), "6.4.1 and 8.1.0", "one version",
    ),
    "sidekiq-version": (lambda r: process(r, "5.2.0"), "Sidekiq 5.2.0", "update"),
    "capsules": (
        lambda r: (process(r, lease=True), process(r, "8.1.0", "other:2:cd", capsules=2)),
        "2 capsules", "BRIDGE_CONFIG",
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", PLANTED)
def test_what_is_wrong_in_redis_is_named_with_its_cure(
    bridge: Bridge, empty_redis: redis.Redis, code: str
) -> None:
    plant, named, cure = PLANTED[code]
    before = set() if code == "no-worker" else diagnose(bridge).keys()
    plant(empty_redis)

    found = diagnose(bridge)

    assert code not in before
    assert named in found[code].seen
    assert cure in found[code].cure


# -- sidecars

#: Known by the constant that it defines: the gem itself is sold.
FAULTY_APP = f"""
require {str(JOBS)!r}
class StampOrigin; def call(*) = yield; end
Sidekiq.configure_server {{ |config| config.client_middleware {{ |chain| chain.add StampOrigin }} }}
module Sidekiq; module Periodic; end; end
"""
WRONG_CLOCK = """
class << Process
  alias_method :true_gettime, :clock_gettime
  def clock_gettime(id, *unit) = true_gettime(id, *unit) + ((id == Process::CLOCK_REALTIME) ? 300 : 0)
end
"""


def test_a_sidecar_that_is_away_is_an_error_where_one_is_wanted(bridge: Bridge) -> None:
    found = diagnose(Bridge({**bridge.settings, "BRIDGE_SIDECAR_URL": "unix:///nowhere/s.sock"}))

    assert found["sidecar-away"].severity == "error"
    assert "BRIDGE_SIDECAR_URL" in found["sidecar-away"].cure
    assert diagnose(bridge)["sidecar-away"].severity == "warning"  # native tasks need none


@pytest.mark.parametrize(
    ("settings", "code", "cure"),
    [
        ({"BRIDGE_SIDECAR_URL": "http://127.0.0.1:9"}, "sidecar-unsafe", "BRIDGE_SIDECAR_SECRET_FILE"),
        (
            {"BRIDGE_SIDECAR_URL": "http://10.0.0.1:9", "BRIDGE_SIDECAR_SECRET": SECRET},
            "sidecar-unsafe",
            "https://",
        ),
        ({"BRIDGE_SIDECAR_SECRET": "short"}, "weak-secret", "openssl rand"),
        ({"BRIDGE_LEASE_SECONDS": "5"}, "timeout-lease", "BRIDGE_LEASE_SECONDS to 15"),
        ({"BRIDGE_HEALTH_BIND": "0.0.0.0:0"}, "health-open", "scraper"),
        ({"BRIDGE_ALLOW_PURGE": "true"}, "purge-allowed", "unset it"),
    ],
)
def test_settings_that_fit_the_schema_and_not_the_world_are_named(
    bridge: Bridge, settings: dict[str, str], code: str, cure: str
) -> None:
    faulty = {**bridge.settings, "BRIDGE_SIDECAR_CONNECT_TIMEOUT_SECONDS": "0.2", **settings}

    assert cure in diagnose(Bridge(faulty))[code].cure
    assert code not in diagnose(bridge)


def test_a_secret_that_everybody_can_read_is_named(bridge: Bridge, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    settings = {**bridge.settings, "BRIDGE_SIDECAR_SECRET_FILE": str(file)}

    file.chmod(0o644)
    assert "chmod o-r" in diagnose(Bridge(settings))["readable-secret"].cure
    file.chmod(0o640)
    assert "readable-secret" not in diagnose(Bridge(settings))


def test_a_wrong_secret_and_a_wrong_clock_are_told_apart(
    bridge: Bridge, sidecar_of: Any, tmp_path: Path
) -> None:
    (tmp_path / "clock.rb").write_text(WRONG_CLOCK)
    env = {"BRIDGE_SIDECAR_SECRET": SECRET}
    right = sidecar_of(env=env)
    late = sidecar_of(env={**env, "RUBYOPT": f"-r{tmp_path / 'clock.rb'}"})

    def told(sidecar: SidecarProcess, secret: str) -> dict[str, Seen]:
        settings = {"BRIDGE_SIDECAR_URL": sidecar.url, "BRIDGE_SIDECAR_SECRET": secret}
        return diagnose(Bridge({**bridge.settings, **settings}))

    assert (
        "correct BRIDGE_SIDECAR_SECRET: both sides need the same"
        in told(right, "w" * 32)["sidecar-secret"].cure
    )
    assert "time service" in told(late, SECRET)["sidecar-clock"].cure
    assert not {"sidecar-secret", "sidecar-clock", "sidecar-away"} & told(right, SECRET).keys()


def test_what_is_wrong_with_a_sidecar_that_answers_is_named(
    bridge: Bridge, sidecar_of: Any, tmp_path: Path, empty_redis: redis.Redis
) -> None:
    (tmp_path / "app.rb").write_text(FAULTY_APP)
    (tmp_path / "clock.rb").write_text(WRONG_CLOCK)
    sidecar = sidecar_of(
        require=tmp_path / "app.rb", threads=2, arguments=("--timeout", "5"),
        env={"RUBYOPT": f"-r{tmp_path / 'clock.rb'}"},
    )  # fmt: skip
    sidecar.socket.chmod(0o777)
    process(empty_redis, lease=True)  # a worker of five slots

    settings = {"BRIDGE_SIDECAR_URL": sidecar.url, "BRIDGE_PROMOTE_THROUGH_SIDECAR": "false"}
    found = diagnose(Bridge({**bridge.settings, **settings}))

    assert "--timeout 25" in found["timeout-sidecar"].cure
    assert "have 2 slots" in found["slots"].seen
    assert "300 s ahead" in found["sidecar-clock"].seen
    assert "StampOrigin" in found["client-middleware"].seen
    assert "sidekiq-ent" in found["cron"].seen
    assert "0700" in found["open-socket"].cure


# -- this machine


class Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def test_a_taken_port_for_the_probes_is_named(bridge: Bridge) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {**bridge.settings, "BRIDGE_HEALTH_BIND": f"127.0.0.1:{server.server_port}"}

        found = diagnose(Bridge(settings))
        server.shutdown()

    assert "free port" in found["health-port"].cure


def test_too_few_files_for_the_jobs_are_named(bridge: Bridge) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 2048), hard))
    try:
        found = diagnose(Bridge({**bridge.settings, "BRIDGE_CONCURRENCY": "1000"}))["file-limit"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert "1000 jobs at once want 4100" in found.seen
    assert "LimitNOFILE" in found.cure


def test_capsules_that_the_workers_keep_are_no_finding(
    bridge: Bridge, empty_redis: redis.Redis, tmp_path: Path
) -> None:
    file = tmp_path / "sidekiq.yml"
    file.write_text("capsules:\n  single: {concurrency: 1, queues: [one]}\n")
    process(empty_redis, lease=True)
    process(empty_redis, "8.1.0", "other:2:cd", capsules=2)

    assert "capsules" not in diagnose(Bridge({**bridge.settings, "BRIDGE_CONFIG": str(file)}))


def test_a_healthy_bridge_has_no_error_and_a_sidekiq_beside_it_is_a_hint(
    shared_stage: Stage, stage: Stage
) -> None:
    assert stage.sidecar is not None
    healthy = Bridge({
        "BRIDGE_REDIS_URL": stage.redis_url, "BRIDGE_SIDECAR_URL": stage.sidecar.url,
        "BRIDGE_HEALTH_BIND": f"127.0.0.1:{free_port()}",
    })  # fmt: skip
    wait_for(lambda: "high,default,low" in healthy("status").out, "the worker to show its queues")
    beside = StockSidekiq(stage.root, stage.place, stage.redis_url, "-q", "low")
    try:
        answer = healthy("doctor", "--json")
    finally:
        beside.stop()

    found = findings(answer)
    assert answer.code == 0, answer.out
    assert found["shared-queue"].severity == "hint"
    assert "low" in found["shared-queue"].seen
    assert "no worker answers" in found["worker-unreachable"].seen  # its probes are on another port
    assert found.keys() <= {
        "shared-queue",
        "worker-unreachable",
        "redis-persistence",
        "redis-slow",
        "long-wait",
    }
    assert healthy("doctor", "--strict").code == 1


def test_people_read_what_is_wrong_and_what_to_do(bridge: Bridge, empty_redis: redis.Redis) -> None:
    push(empty_redis, "[bold]nobody")

    answer = bridge("doctor")

    assert answer.code == 1
    assert "error   unserved-queue: 1 job in queue [bold]nobody" in answer.out
    assert "        -> name it with -Q" in answer.out
    assert answer.out.splitlines()[-1].startswith("2 errors, ")
