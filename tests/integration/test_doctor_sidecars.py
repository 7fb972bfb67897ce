"""Faults of sidecars and of this machine's worker, each planted for real; ``bridge doctor`` names them.

Another release or protocol is a real sidecar whose app has changed that constant. What systemd says comes
from a stand-in for ``systemctl``, since no machine that runs tests has the unit.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.command import Bridge
from tests.support.diagnosis import diagnose
from tests.support.processes import clean_environment, free_port
from tests.support.redis_server import RedisServer
from tests.support.sidecar_process import JOBS, SidecarProcess
from tests.support.stage import Stage
from tests.support.waiting import wait_for


@pytest.fixture
def bridge(redis_server: RedisServer, empty_redis: redis.Redis) -> Bridge:
    return Bridge({"BRIDGE_REDIS_URL": redis_server.url_of(15), "BRIDGE_HEALTH_BIND": "127.0.0.1:0"})


def app(path: Path, *lines: str) -> Path:
    """The tests' own app, and after it these lines of Ruby."""
    path.write_text("\n".join([f"require {str(JOBS)!r}", *lines]))
    return path


def constant(name: str, value: str) -> str:
    module, _, last = name.rpartition("::")
    return f"{module}.send(:remove_const, :{last}); {name} = {value!r}"


def beside(bridge: Bridge, *sidecars: SidecarProcess) -> Bridge:
    return Bridge({**bridge.settings, "BRIDGE_SIDECAR_URL": ",".join(one.url for one in sidecars)})


def test_other_protocols_releases_and_versions_of_sidekiq_are_told_apart(
    bridge: Bridge, sidecar_of: Any, tmp_path: Path
) -> None:
    foreign = sidecar_of(require=app(tmp_path / "a.rb", constant("SidekiqBridge::Sidecar::PROTOCOL", "9")))
    old = sidecar_of(require=app(tmp_path / "b.rb", constant("SidekiqBridge::Sidecar::VERSION", "0.0.9")))
    newer = sidecar_of(require=app(tmp_path / "c.rb", constant("Sidekiq::VERSION", "99.1.0")))
    right = sidecar_of()

    found = {one: diagnose(beside(bridge, one)) for one in (foreign, old, newer, right)}
    mixed = diagnose(beside(bridge, right, newer))

    assert "same release of worker and sidecar" in found[foreign]["sidecar-protocol"].cure
    assert "release 0.0.9" in found[old]["sidecar-release"].seen
    assert "same release of both" in found[old]["sidecar-release"].cure
    assert "99.1.0" in mixed["sidecar-versions"].seen
    assert "one version" in mixed["sidecar-versions"].cure
    codes = {"sidecar-protocol", "sidecar-release", "sidecar-versions", "sidecar-not-ready", "database-pool"}
    assert not codes & found[right].keys()


def test_a_sidecar_that_drains_is_named(bridge: Bridge, sidecar_of: Any) -> None:
    sidecar = sidecar_of()
    os.kill(sidecar.process.pid, signal.SIGTSTP)
    wait_for(lambda: not sidecar.is_ready(), "the sidecar to drain")

    found = diagnose(beside(bridge, sidecar))["sidecar-not-ready"]

    assert "is draining" in found.seen
    assert "start another" in found.cure


def test_a_database_pool_smaller_than_the_slots_is_named_by_doctor_and_sidecar(
    bridge: Bridge, sidecar_of: Any, tmp_path: Path
) -> None:
    # With Rails' own database.yml and --threads 10, jobs that found no connection failed.
    lines = (
        'require "active_record"',
        'ActiveRecord::Base.establish_connection(adapter: "sqlite3", database: ":memory:", pool: {})',
    )
    small = sidecar_of(require=app(tmp_path / "s.rb", lines[0], lines[1].format(5)), threads=10)
    enough = sidecar_of(require=app(tmp_path / "e.rb", lines[0], lines[1].format(10)), threads=10)

    found = diagnose(beside(bridge, small))["database-pool"]

    assert "10 slots and 5 connections" in found.seen
    assert "pool: 10 in config/database.yml" in found.cure
    assert "The database pool has 5 connections for 10 job slots" in small.process.log
    assert "database-pool" not in diagnose(beside(bridge, enough))


def test_a_sidecar_that_wants_a_secret_where_none_is_set_is_named(bridge: Bridge, sidecar_of: Any) -> None:
    sidecar = sidecar_of(env={"BRIDGE_SIDECAR_SECRET": "s" * 32})

    found = diagnose(beside(bridge, sidecar))["sidecar-secret"]

    assert "BRIDGE_SIDECAR_SECRET is unset here" in found.seen


def test_a_worker_that_takes_no_jobs_is_named(bare_stage: Stage) -> None:
    where = f"127.0.0.1:{free_port()}"
    settings = {"BRIDGE_REDIS_URL": bare_stage.redis_url, "BRIDGE_HEALTH_BIND": where}
    worker = bare_stage.start_worker(env={"BRIDGE_HEALTH_BIND": where})
    # Its log says ready a moment before Redis has answered its first heartbeat.
    wait_for(lambda: "worker-not-ready" not in diagnose(Bridge(settings)), "the worker to be ready", 20)

    os.kill(worker.pid, signal.SIGTSTP)

    found = wait_for(lambda: diagnose(Bridge(settings)).get("worker-not-ready"), "the worker to be quiet", 20)
    assert "takes no jobs: " in found.seen
    assert "its log" in found.cure


@pytest.mark.parametrize(("stop", "is_named"), [("30s", True), ("1min 30s", False), ("infinity", False)])
def test_a_systemd_that_kills_too_soon_is_named(
    bridge: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str, is_named: bool
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho LoadState=loaded\necho TimeoutStopUSec={stop}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    found = diagnose(bridge)

    assert ("timeout-systemd" in found) is is_named
    if is_named:
        assert found["timeout-systemd"].cure == "TimeoutStopSec=40"


def test_arguments_that_are_shown_are_named(bridge: Bridge) -> None:
    shown = Bridge({**bridge.settings, "BRIDGE_SHOW_ARGS": "true"})

    assert "unset it where they are private" in diagnose(shown)["args-shown"].cure
    assert "args-shown" not in diagnose(bridge)


def test_a_module_that_is_not_there_is_named(bridge: Bridge) -> None:
    def told(names: str) -> dict[str, Any]:
        return {**diagnose(Bridge({**bridge.settings, "BRIDGE_IMPORTS": names}))}

    assert "nosuch.tasks" in told("tests.support.native_tasks,nosuch.tasks")["imports"].seen
    assert "imports" not in told("tests.support.native_tasks")


def test_tracing_without_its_library_is_named(bridge: Bridge, tmp_path: Path) -> None:
    # A package of the same name that is empty stands before the real one.
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry/__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), clean_environment().get("PYTHONPATH", "")])
    traced = Bridge({**bridge.settings, "BRIDGE_TRACING": "child"})

    assert "sidekiq-bridge[otel]" in traced.outside("doctor", env={"PYTHONPATH": path}).out
    assert "tracing-extra" not in traced.outside("doctor").out
