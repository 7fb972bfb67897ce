"""A worker beside an app that fetches in its own way: it refuses until that is accepted, and loses no job."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Bridge
from tests.support.diagnosis import diagnose
from tests.support.processes import ROOT, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import JOBS
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for
from tests.support.worker_process import CELERY, bridge_environment

GEMS = ROOT / "tests/support/gems"


@pytest.fixture
def stage(redis_server: RedisServer, ruby_root: RubyRoot, tmp_path: Path) -> Iterator[Stage]:
    app = tmp_path / "app.rb"
    gems = ("own-fetch", "sidekiq-unique-jobs")
    app.write_text("\n".join(f"require {str(path)!r}" for path in (JOBS, *(GEMS / name for name in gems))))
    with Stage(redis_server, ruby_root, database=9, jobs=app) as made:
        yield made


def test_a_worker_does_not_start_beside_a_fetcher_that_would_be_lost(stage: Stage) -> None:
    sidecar = stage.start_sidecar()

    answer = subprocess.run(
        [CELERY, "-A", "bridge", "worker", "-c", "1"],
        env=clean_environment() | bridge_environment(stage.redis_url, sidecar.url),
        cwd=ROOT, capture_output=True, text=True, timeout=40,
    )  # fmt: skip

    assert answer.returncode == 78
    assert "the app has OwnFetch: the app's own fetcher is never called" in answer.stderr
    assert "BRIDGE_ACCEPT_GEMS=OwnFetch" in answer.stderr.splitlines()[-1]


def test_a_worker_that_meets_such_a_fetcher_later_leaves_ruby_jobs_in_their_queue(stage: Stage) -> None:
    worker = stage.start_worker()
    jid = stage.push_job({"class": "EchoJob", "args": ["kept"]})

    stage.start_sidecar()

    wait_for(lambda: "the app has OwnFetch" in worker.log, "the refusal in the log", 30)
    holds_for(lambda: stage.redis.llen("queue:default") == 1, 1.5, "the job in its queue")
    assert stage.ledger.count("done", jid) == 0


def test_a_fetcher_that_is_accepted_keeps_no_worker_from_its_jobs(stage: Stage) -> None:
    stage.start_sidecar()
    stage.start_worker(env={"BRIDGE_ACCEPT_GEMS": "OwnFetch"})

    jid = stage.push_job({"class": "EchoJob", "args": ["run"]})

    stage.ledger.wait_for("done", jid, seconds=30)


def test_doctor_has_a_verdict_on_each_gem(stage: Stage) -> None:
    sidecar = stage.start_sidecar()
    settings = {
        "BRIDGE_REDIS_URL": stage.redis_url,
        "BRIDGE_SIDECAR_URL": sidecar.url,
        "BRIDGE_HEALTH_BIND": "127.0.0.1:0",
    }

    found = diagnose(Bridge(settings))

    assert found["gem-OwnFetch"].seen.startswith("OwnFetch (lost)")
    assert "docs/gems.md" in found["gem-OwnFetch"].cure
    assert found["gem-sidekiq-unique-jobs"].seen.startswith("sidekiq-unique-jobs (works)")
    accepted = diagnose(Bridge({**settings, "BRIDGE_ACCEPT_GEMS": "OwnFetch"}))
    assert accepted["gem-OwnFetch"].severity == "warning"
