"""What a worker loads before its first job. Each of these modules once cost every start some milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_for

#: A worker with default settings needs none of these before a sidecar answers.
NOT_AT_START = (
    "requests",
    "urllib3",
    "rich",
    "celery.beat",
    "celery.apps.beat",
    "bridge.monitoring.tracing",
    "bridge.sidecar.requests_session",
    "bridge.cli.doctor",
    "bridge.cli.status",
    "bridge.cli.jobs",
    "gevent",
    "flask",
    "sentry_sdk",
    "unittest",
)


def report_of(stage: Stage, tmp_path: Path, *arguments: str, **env: str) -> dict[str, Any]:
    file = tmp_path / "report"
    stage.start_worker(
        *arguments, module="tests.support.start_report", env={"TEST_START_REPORT": str(file), **env}
    )
    wait_for(file.exists, "the worker to report")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_a_worker_loads_only_what_its_first_job_needs(bare_stage: Stage, tmp_path: Path) -> None:
    # Given a worker with default settings, whose sidecar does not answer
    # When it is ready
    found = report_of(bare_stage, tmp_path)
    # Then nothing is loaded that it does not need
    assert not set(NOT_AT_START) & set(found["modules"])
    # And no validator is built for replies that it has not got
    assert found["built"] == []


@pytest.mark.parametrize("pool", ["bridge", "prefork"])
def test_a_started_worker_collects_garbage_but_not_what_it_has_loaded(
    bare_stage: Stage, tmp_path: Path, pool: str
) -> None:
    # A full collection before the first job walked through all modules for 55 ms.
    found = report_of(bare_stage, tmp_path, BRIDGE_POOL=pool)
    assert found["collects"]
    assert found["frozen"] > 50_000


def test_a_worker_with_beat_loads_it(bare_stage: Stage, tmp_path: Path) -> None:
    found = report_of(bare_stage, tmp_path, "-B", "-s", str(tmp_path / "schedule"))
    assert "celery.beat" in found["modules"]
