"""Chance decides which files share a process. A task of one file kept a job of another from its retry."""

from __future__ import annotations

import os
from importlib import import_module

import pytest

from bridge.celery import Bridge, make_app
from bridge.settings import load as load_settings
from tests.support.process_state import as_found


def new_app() -> Bridge:
    return make_app(load_settings({}))


def change_the_environment() -> None:
    with as_found():
        os.environ["LEFT_SET"] = os.environ["LEFT_CHANGED"] = "by a test"
        del os.environ["LEFT_GONE"]


def test_a_task_of_one_file_is_not_a_task_of_the_next_ones_applications() -> None:
    with as_found():
        import_module("bridge.tasks")

        @new_app().task(name="LeakingJob", sidekiq_options={"retry": False})
        def leaking() -> None:
            """Declared only."""

        assert "LeakingJob" in new_app().tasks, "Celery shares it with every later application"

    after = new_app().tasks

    assert "LeakingJob" not in after
    assert {"bridge.perform", "celery.chain"} <= set(after), "what is not of a test stays"


def test_a_changed_environment_is_put_right_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEFT_SET", "LEFT_GONE", "LEFT_CHANGED"):
        monkeypatch.setenv(name, "as found")
    monkeypatch.delenv("LEFT_SET")

    with pytest.raises(AssertionError, match=r"\['LEFT_CHANGED', 'LEFT_GONE', 'LEFT_SET'\]"):
        change_the_environment()

    found = [os.environ.get(name) for name in ("LEFT_SET", "LEFT_GONE", "LEFT_CHANGED")]
    assert found == [None, "as found", "as found"]
