from __future__ import annotations

import gc
import itertools
import pickle
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import signals
from celery.app import trace

from bridge.broker import messages
from bridge.celery import Bridge, make_app
from bridge.execution.outcomes import RetryAt
from bridge.execution.task import SidekiqTask
from bridge.fast_path import retry_tracer
from bridge.fast_path.retry_tracer import RetryInfo
from bridge.settings import load as load_settings
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.payload.job import SidekiqJob

PAYLOAD = b'{"class":"BrokenJob","jid":"b4a577edbccf1d805744efa9","args":[1],"retry":%s}'
NUMBERS = itertools.count()


class Heavy:
    """What a job may have in its hands when it fails."""


@pytest.fixture
def app() -> Bridge:
    app = make_app(load_settings({"BRIDGE_REDIS_URL": "redis://127.0.0.1:1/0"}))
    app.bridge.lease.holds = lambda identity: True  # type: ignore[method-assign]
    return app


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    heard: list[dict[str, Any]] = []

    def receiver(**fields: Any) -> None:
        heard.append(fields)

    signals.task_retry.connect(receiver, weak=False)
    yield heard
    signals.task_retry.disconnect(receiver)


def run(app: Bridge, code: Callable[..., Any], retry: bytes = b"true", **options: Any) -> Any:
    """The outcome of a native job with this code, as the pool hands it back."""
    payload = PAYLOAD % retry
    task = app.task(name=f"BrokenJob{next(NUMBERS)}", **options)(code)
    retry_tracer.install(app, "here")
    unit = UnitOfWork(Delivery("here:1:x", 1, "default", payload, 0), SidekiqJob.parse(payload))
    message = messages.from_unit(unit, None, task.name, native=True, show_args=False)
    request = {**message.headers, "properties": {}, "delivery_info": {}}
    return trace.trace_task(task, message.headers["id"], [1], {}, request, app=app).retval


def break_down(number: int) -> None:
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("no luck") from error


def chained(cause: BaseException | None = None) -> RetryAt:
    try:
        try:
            break_down(1)
        except ValueError as error:
            raise RetryAt(exc=error, when=17.0) from (cause or error)
    except RetryAt as retry:
        return retry


def test_a_retry_is_told_with_the_traceback_that_python_would_write() -> None:
    error = chained()
    expected = "".join(traceback.format_exception(error))
    assert "KeyError" in expected
    assert "break_down" in expected

    assert RetryInfo(error).traceback == expected


def test_errors_that_led_to_each_other_do_not_make_it_run_in_circles() -> None:
    error = chained()
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error

    assert "no luck" in RetryInfo(error).traceback


def test_a_job_that_fails_comes_back_with_its_decision_and_the_places_of_its_frames(app: Bridge) -> None:
    info = run(app, break_down)

    assert type(info) is RetryInfo
    assert info.exception.sidekiq_decision.at > time.time()
    assert "in break_down" in info.traceback
    assert "ValueError: no luck" in info.traceback


def test_what_a_failed_job_had_in_its_hands_is_let_go_without_the_garbage_collector(app: Bridge) -> None:
    # A worker of failing jobs grew to twice its size: each traceback stood in a ring.
    seen: list[weakref.ref[Heavy]] = []

    def code(number: int) -> None:
        heavy = Heavy()
        seen.append(weakref.ref(heavy))
        raise ValueError(heavy is None)

    gc.disable()
    try:
        info = run(app, code)
        assert "ValueError" in info.traceback
        assert seen[0]() is None
    finally:
        gc.enable()


def test_a_receiver_of_task_retry_gets_celerys_own_einfo(app: Bridge, told: list[dict[str, Any]]) -> None:
    info = run(app, break_down)

    assert type(info) is ExceptionInfo
    assert told[0]["einfo"] is info
    assert "in break_down" in told[0]["einfo"].traceback
    assert isinstance(told[0]["reason"], RetryAt)


def test_an_on_retry_of_the_task_gets_celerys_own_einfo(app: Bridge) -> None:
    seen: list[Any] = []

    class Own(SidekiqTask):
        abstract = True

        def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
            seen.append((exc, einfo))

    run(app, break_down, base=Own)

    assert isinstance(seen[0][0], ValueError)
    assert type(seen[0][1]) is ExceptionInfo


def test_a_job_that_is_out_of_retries_fails_as_celery_has_it(app: Bridge) -> None:
    heard: list[Any] = []

    def receiver(einfo: Any = None, **_: Any) -> None:
        heard.append(einfo)

    signals.task_failure.connect(receiver, weak=False)
    try:
        info = run(app, break_down, retry=b"0")
    finally:
        signals.task_failure.disconnect(receiver)
    assert heard == [info]
    assert type(info) is ExceptionInfo


def test_a_tracer_that_a_library_has_replaced_stays(app: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "build_tracer", lambda *args, **kwargs: pytest.fail("replaced once more"))
    before = app.tasks["celery.chunks"].__trace__

    retry_tracer.install(app, "here")

    assert app.tasks["celery.chunks"].__trace__ is before


def test_a_retry_for_an_error_that_cannot_travel_travels_all_the_same() -> None:
    error = ValueError(sys)  # modules cannot be pickled

    again = pickle.loads(pickle.dumps(RetryAt(exc=error, when=1.0)))

    assert "ValueError" in repr(again.exc)
    assert again.when == 1.0
