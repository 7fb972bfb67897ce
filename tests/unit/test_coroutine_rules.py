from __future__ import annotations

import functools
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from celery import signals

from bridge.celery import make_app
from bridge.execution import coroutine_rules
from bridge.execution.task import SidekiqTask
from bridge.settings import load as load_settings

pytestmark = pytest.mark.usefixtures("no_shared_tasks")


def _generator() -> Iterator[int]:
    yield 1


async def _async_generator() -> AsyncIterator[int]:
    yield 1


async def _coroutine(*_: Any, **__: Any) -> None:
    """Nothing."""


@types.coroutine
def _old_coroutine() -> Any:
    yield


class _Holder:
    def generates(self) -> Iterator[int]:
        yield 1


@pytest.fixture
def app() -> Any:
    return make_app(load_settings({}))


def task_of(app: Any, run: Any, **more: Any) -> Any:
    made = type("ReportJob", (SidekiqTask,), {"name": "ReportJob", "run": staticmethod(run), **more})
    return app.register_task(made())


@pytest.mark.parametrize(
    "code",
    [_generator, _async_generator, functools.partial(_generator), _Holder().generates],
)
def test_generators_are_refused_in_one_sentence(app: Any, code: Any) -> None:
    (sentence,) = coroutine_rules.objections(task_of(app, code))

    assert sentence == (
        "the task ReportJob is a generator function (it has a yield): Celery would never run its body. "
        "Write a loop without yield."
    )


@pytest.mark.parametrize("code", [_coroutine, _old_coroutine, functools.partial(_coroutine), print])
def test_coroutines_and_plain_functions_are_not(app: Any, code: Any) -> None:
    assert [*coroutine_rules.objections(task_of(app, code))] == []


@pytest.mark.parametrize("name", coroutine_rules.HOOKS)
def test_a_hook_that_is_a_coroutine_is_refused(app: Any, name: str) -> None:
    """Celery calls it, and it would never run."""
    (sentence,) = coroutine_rules.objections(task_of(app, print, **{name: _coroutine}))

    assert sentence.startswith(f"{name} of the task ReportJob is `async def`")


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_a_pool_of_greenlets_refuses_coroutine_tasks_by_name(app: Any, kind: str) -> None:
    pool = type("TaskPool", (), {"__module__": f"celery.concurrency.{kind}"})
    assert coroutine_rules.pool_objection(app, pool) is None
    task_of(app, _coroutine)

    found = coroutine_rules.pool_objection(app, pool)

    assert found is not None
    assert found.startswith(f"-P {kind} cannot run the `async def` tasks ReportJob: ")
    threads = type("TaskPool", (), {"__module__": "celery.concurrency.thread"})
    assert coroutine_rules.pool_objection(app, threads) is None


@pytest.mark.parametrize("weak", [True, False])
def test_a_receiver_of_a_signal_that_is_a_coroutine_is_refused(weak: bool) -> None:
    signals.task_prerun.connect(_coroutine, weak=weak)
    try:
        (sentence,) = coroutine_rules.signal_objections()
    finally:
        signals.task_prerun.disconnect(_coroutine)

    assert sentence.startswith("the receiver _coroutine of the signal task_prerun is `async def`")
    assert [*coroutine_rules.signal_objections()] == []
