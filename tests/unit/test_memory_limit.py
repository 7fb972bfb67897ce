from __future__ import annotations

import logging

import pytest

from bridge.celery import make_app
from bridge.monitoring.health.memory_limit import MemoryCeiling
from bridge.settings import load as load_settings


class Ended(list[str]):
    def end(self) -> None:
        self.append("end")


def test_a_worker_that_grows_above_its_ceiling_ends_once() -> None:
    memory, ended = [50_000], Ended()
    ceiling = MemoryCeiling(100, lambda: memory[0], ended.end)
    ceiling.round()
    assert ended == []
    memory[0] = 98_000
    ceiling.round()
    ceiling.round()
    assert ended == ["end"]


def test_a_ceiling_below_what_the_worker_needs_is_not_held(caplog: pytest.LogCaptureFixture) -> None:
    ended = Ended()
    with caplog.at_level(logging.WARNING):
        ceiling = MemoryCeiling(10, lambda: 50_000, ended.end)
    ceiling.round()
    assert ended == []
    assert "from the start" in caplog.text


def test_the_ceiling_of_pool_processes_is_celerys_own_setting_in_kibibytes() -> None:
    app = make_app(load_settings({"BRIDGE_CHILD_MAX_MEMORY_MEGABYTES": "512"}))
    assert app.conf.worker_max_memory_per_child == 500_000
