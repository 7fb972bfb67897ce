from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals
from celery.app import trace
from celery.loaders.app import AppLoader
from celery.worker import strategy

from bridge.execution.task import SidekiqTask
from bridge.fast_path import observers


@pytest.fixture
def app() -> Celery:
    return Celery("observed", set_as_current=False, task_cls=SidekiqTask)


@pytest.fixture(autouse=True)
def quiet_trace() -> Iterator[None]:
    loggers = (trace.logger, strategy.logger)
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def task_of(app: Celery, **options: Any) -> Any:
    @app.task(name="Noop", **options)
    def noop() -> None:
        """Nothing."""

    return noop


def test_a_plain_task_is_not_observed(app: Celery) -> None:
    assert not observers.observation(task_of(app))()


@pytest.mark.parametrize(
    "signal", [signals.task_received, signals.task_prerun, signals.task_postrun, signals.task_success]
)
def test_a_receiver_that_comes_later_is_noticed(app: Celery, signal: Any) -> None:
    is_observed = observers.observation(task_of(app))

    def receiver(**_: Any) -> None:
        """Nothing."""

    signal.connect(receiver, weak=False)
    try:
        assert is_observed()
    finally:
        signal.disconnect(receiver)
    assert not is_observed()


@pytest.mark.parametrize("logger", [trace.logger, strategy.logger])
def test_a_log_at_info_is_noticed(app: Celery, logger: logging.Logger) -> None:
    is_observed = observers.observation(task_of(app))
    logger.setLevel(logging.INFO)
    assert is_observed()


def test_a_rate_limit_that_is_set_later_is_noticed(app: Celery) -> None:
    task = task_of(app)
    is_observed = observers.observation(task)
    task.rate_limit = "10/s"
    assert is_observed()


@pytest.mark.parametrize("hook", observers.LOADER_HOOKS)
def test_a_hook_of_the_users_own_loader_is_noticed(hook: str) -> None:
    own = type("Own", (AppLoader,), {hook: lambda self, *_: None})
    app = Celery("observed", set_as_current=False, task_cls=SidekiqTask, loader=own)
    assert observers.observation(task_of(app))()


@pytest.mark.parametrize("hook", observers.HOOKS)
def test_a_hook_of_the_users_own_task_class_is_noticed(app: Celery, hook: str) -> None:
    base = type("Own", (SidekiqTask,), {"abstract": True, hook: lambda self, *_, **__: None})
    assert observers.observation(task_of(app, base=base))()


def test_a_tracer_that_a_library_has_replaced_is_noticed(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "build_tracer", lambda *args, **kwargs: None)
    assert observers.observation(task_of(app))()
