"""`task_always_eager` and `apply()`, as in Celery: one run, and the caller gets the task's own error.

A failing task ran 490 times under `task_always_eager`, into a RecursionError: every error of a native task is
retried, and a retry of an eager run is another eager run at once. `task_eager_propagates` gave a Retry.
"""

from __future__ import annotations

from typing import Any

import pytest
from kombu.exceptions import EncodeError

from bridge.celery import Bridge, make_app
from bridge.settings import load as load_settings


class Own(Exception):
    """An error of the task's own."""


@pytest.fixture
def app() -> Bridge:
    """No Redis is there: an eager run needs none."""
    app = make_app(load_settings({"BRIDGE_REDIS_URL": "redis://127.0.0.1:1/0"}))
    app.conf.task_always_eager = True
    return app


def failing(app: Bridge, **options: Any) -> tuple[Any, list[int]]:
    """A task that fails each time, and its runs."""
    runs: list[int] = []

    @app.task(name="FailJob", shared=False, bind=True, **options)
    def fail(self: Any) -> None:
        runs.append(self.request.retries)
        raise Own("always")

    return fail, runs


def retrying(app: Bridge, **options: Any) -> tuple[Any, list[int]]:
    """A task that asks for a retry each time, and its runs."""
    runs: list[int] = []

    @app.task(name="RetryJob", shared=False, bind=True, **options)
    def again(self: Any) -> None:
        runs.append(self.request.retries)
        raise self.retry(exc=Own("again"), countdown=60)

    return again, runs


@pytest.mark.parametrize("way", ["delay", "apply_async", "apply"])
def test_a_failing_task_runs_once_and_its_result_is_its_own_error(app: Bridge, way: str) -> None:
    task, runs = failing(app)

    result = getattr(task, way)()

    assert runs == [0]
    assert result.state == "FAILURE"
    with pytest.raises(Own, match="always"):
        result.get()


def test_eager_propagates_raises_the_tasks_own_error(app: Bridge) -> None:
    app.conf.task_eager_propagates = True
    task, runs = failing(app)

    with pytest.raises(Own, match="always"):
        task.delay()

    assert runs == [0]


def test_apply_may_raise_as_well(app: Bridge) -> None:
    app.conf.task_always_eager = False
    task, runs = failing(app)

    with pytest.raises(Own, match="always"):
        task.apply(throw=True)

    assert runs == [0]


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"max_retries": 2}, 2),
        ({"sidekiq_options": {"retry": 3}}, 3),
        ({"sidekiq_options": {"retry": False}}, 0),
        ({}, 25),
    ],
)
def test_a_retry_that_the_task_asks_for_runs_at_once_up_to_its_limit(
    app: Bridge, options: dict[str, Any], most: int
) -> None:
    task, runs = retrying(app, **options)

    result = task.delay()

    assert runs == list(range(most + 1))
    with pytest.raises(Own, match="again"):
        result.get()


def test_errors_that_the_task_itself_names_are_retried_as_in_celery(app: Bridge) -> None:
    task, runs = failing(app, autoretry_for=(Own,), max_retries=2)

    result = task.delay()

    assert runs == [0, 1, 2]
    assert isinstance(result.result, Own)


def test_the_limit_of_one_call_does_not_stay_on_the_task(app: Bridge) -> None:
    runs: list[int] = []

    @app.task(name="RetryJob", shared=False, bind=True)
    def again(self: Any, most: int | None) -> None:
        runs.append(self.request.retries)
        raise self.retry(exc=Own("again"), max_retries=most)

    again.delay(1)
    assert runs == [0, 1]
    runs.clear()
    again.delay(None)
    assert len(runs) == 26


def test_a_success_gives_its_value(app: Bridge) -> None:
    @app.task(name="AddJob", shared=False)
    def add(one: int, other: int) -> int:
        return one + other

    assert add.delay(1, 2).get() == 3
    assert add.apply((3, 4)).get() == 7


@pytest.mark.parametrize(("args", "kwargs"), [(({1},), {}), ((), {"user_id": 1})])
def test_an_eager_push_is_refused_what_a_push_is_refused(app: Bridge, args: Any, kwargs: Any) -> None:
    """Else the tests of an application pass, and its pushes in production are refused."""

    @app.task(name="ReportJob", shared=False)
    def report(user_id: int) -> None:
        """Nothing."""

    with pytest.raises(EncodeError, match="Sidekiq job"):
        report.delay(*args, **kwargs)


def test_a_direct_call_raises_the_tasks_own_error(app: Bridge) -> None:
    task, runs = failing(app)

    with pytest.raises(Own):
        task()

    assert len(runs) == 1
