"""The 70 checks run against one Ruby: the system's, or the change-root that TEST_RUBY_ROOT names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.celery import Bridge, make_app
from bridge.settings import load as load_settings
from tests.support import redis_users
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.worker_process import WorkerProcess

CHECKS = range(1, 71)


def check_number(test_name: str) -> int | None:
    """The number of the check that a test's name carries."""
    found = re.search(r"test_check_(\d+)_", test_name)
    return int(found[1]) if found else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which of the 70 checks ran against this Sidekiq, when all of them were asked for."""
    ran = {
        outcome: {check_number(report.nodeid) for report in terminalreporter.getreports(outcome)} - {None}
        for outcome in ("passed", "failed", "skipped")
    }
    if len(set().union(*ran.values())) < len(CHECKS):
        return
    passed = ran["passed"] - ran["failed"]
    terminalreporter.write_line(f"{len(passed)} of {len(CHECKS)} checks passed{_others(ran, passed)}")


def _others(ran: dict[str, set[Any]], passed: set[Any]) -> str:
    groups = {"failed": ran["failed"], "not in this Sidekiq": ran["skipped"] - passed - ran["failed"]}
    said = [f"{name}: {', '.join(map(str, sorted(group)))}" for name, group in groups.items() if group]
    return "".join(f"; {part}" for part in said)


@pytest.fixture(scope="session")
def sidekiq(ruby_root: RubyRoot) -> tuple[int, ...]:
    """Sidekiq's version, for the rules that differ: (7, 3, 2)."""
    return ruby_root.sidekiq


@pytest.fixture(scope="module")
def single_worker(shared_stage: Stage) -> Iterator[WorkerProcess]:
    """A second worker on the shared stage, with one slot, on queues of its own: ``a`` before ``b``."""
    worker = shared_stage.make_worker("-Q", "a,b", concurrency=1, name="single")
    yield worker
    worker.stop()


@pytest.fixture
def disposable_worker(stage: Stage) -> Iterator[WorkerProcess]:
    """A worker that the test may quiet, stop or kill; it takes jobs from ``own`` only."""
    worker = stage.make_worker("-Q", "own", concurrency=3, name="disposable")
    yield worker
    worker.process.kill()
    stage.redis.srem(
        "processes", *[m for m in stage.redis.smembers("processes") if b":%d:" % worker.pid in m], ""
    )


@pytest.fixture
def stock_sidekiq(stage: Stage) -> Iterator[StockSidekiq]:
    """Sidekiq's own process beside the bridge, on the queues ``stock`` and ``low``."""
    process = StockSidekiq(
        stage.root,
        stage.place,
        stage.redis_url,
        *("-q", "stock", "-q", "low", "-c", "3"),
        env={"TEST_POLL_INTERVAL": "1"},
    )
    yield process
    process.stop()


@pytest.fixture(params=["ruby", "native"])
def failing(request: pytest.FixtureRequest) -> str:
    """A class that fails, once in Ruby and once in Python: both follow the same rules."""
    return {"ruby": "FailJob", "native": "NativeFailJob"}[request.param]


@pytest.fixture
def producer(stage: Stage, sidekiq: tuple[int, ...]) -> Iterator[Bridge]:
    """The application as a producer, in this process."""
    settings = load_settings(
        {
            "BRIDGE_REDIS_URL": redis_users.for_bridge(stage.redis_url),
            "BRIDGE_SIDEKIQ_VERSION": ".".join(map(str, sidekiq)),
        }
    )
    app = make_app(settings)
    yield app
    app.close()
