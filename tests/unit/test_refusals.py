"""What Sidekiq has no place for is refused before anything is sent; no Redis is there in these tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import chord
from celery.beat import Scheduler
from kombu import Connection

from bridge.celery import Bridge, make_app
from bridge.errors import PushRefused
from bridge.settings import load as load_settings


@pytest.fixture
def app() -> Bridge:
    return make_app(load_settings({"BRIDGE_REDIS_URL": "redis://127.0.0.1:1/0"}))


def job(app: Bridge, number: int = 1) -> Any:
    return app.signature("HardJob", args=[number], immutable=True)


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("expires", 10, "expires_in"),
        ("expires", 0, "expires_in"),
        ("priority", 3, "the order of -Q"),
        ("priority", 0, "the order of -Q"),
    ],
)
def test_an_option_without_a_place_in_sidekiq_is_refused_with_advice(
    app: Bridge, option: str, value: Any, advice: str
) -> None:
    with pytest.raises(PushRefused, match=advice):
        app.send_task("HardJob", args=[1], **{option: value})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"serializer": "pickle"}, "serializer='pickle': Ruby reads JSON only"),  # a raw UnicodeDecodeError
        ({"serializer": "yaml"}, "serializer='yaml': Ruby reads JSON only"),
        ({"compression": "gzip"}, "compression: Ruby reads no compressed job"),
        ({"reply_to": "me"}, "reply_to: a result is stored under the jid"),
        ({"delivery_mode": 1}, "delivery_mode=1: Redis keeps every job"),
        ({"delivery_mode": "transient"}, "Redis keeps every job"),
        ({"mandatory": True}, "mandatory: Redis knows no such option"),
        ({"stamped_headers": ["a"], "a": 1}, "cannot carry stamps"),
        ({"argsrepr": "***"}, "BRIDGE_SHOW_ARGS"),
        ({"retries": 3}, "sidekiq_options="),
        ({"expiration": 5}, "expires_in"),
        ({"message_id": "x"}, "cannot carry message_id: remove it"),
        ({"countdwon": 5}, "cannot carry countdwon: remove it"),
        ({"connection": Connection("memory://")}, "another broker"),
        ({"producer": Connection("memory://").Producer()}, "another broker"),
        ({"queue": "bad name*"}, "'bad name\\*' cannot be the name of a queue"),
        ({"queue": "bad name*", "retry": True}, "cannot be the name of a queue"),
        ({"sidekiq_options": {"queue": "bad name*"}}, "write the name of a queue"),
        ({"sidekiq_options": {"retry": "yes"}}, "HardJob: sidekiq_options: retry = 'yes'"),
        ({"sidekiq_options": {"unique_for": 5}}, "unique_for: Sidekiq Pro"),
        ({"sidekiq_options": {"tenant": object()}}, "sidekiq_options\\['tenant'\\] is a object"),
        ({"sidekiq_options": 5}, "write an object"),
        ({"headers": {"a": object()}}, "headers\\['a'\\] is a object"),
        ({"countdown": "5"}, "countdown='5': write a number of seconds"),
        ({"countdown": float("inf")}, "countdown=inf: write a number of seconds"),
        ({"countdown": float("nan")}, "countdown=nan: write a number of seconds"),
        # Ruby's JSON 2.6 refused the whole payload: no page of Sidekiq showed the job.
        ({"args": [{"a": ["\ud800"]}]}, "args\\[0\\]\\['a'\\]\\[0\\] has half of a surrogate pair"),
        ({"args": [{"\udc00": 1}]}, "a key of args\\[0\\] has half of a surrogate pair"),
        ({"sidekiq_options": {"tenant": "\ud800"}}, "sidekiq_options\\['tenant'\\] has half of a surrogate"),
        ({"countdown": 1_700_000_000_000}, "less than 1e9"),
        ({"countdown": timedelta(minutes=1)}, "write a number of seconds"),
        ({"countdown": True}, "countdown=True"),
        ({"args": "one"}, "args='one': write a list"),
        ({"args": {1}}, "write a list"),
        ({"task_id": 5}, "task_id=5: a jid is a string"),
        ({"task_id": "a\nb"}, "without control characters"),
        ({"exchange": "media", "routing_key": "media.video"}, "leads to no declared queue"),
    ],
)
def test_an_option_that_had_no_effect_is_refused_and_named(
    app: Bridge, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(PushRefused, match=said):
        app.send_task("HardJob", **{"args": [1], **options})


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ({"queue": "low", "priority": 5}, "priority: use a queue of its own"),
        ({"queue": "low", "expires": 60}, "expires_in"),
        ({"queue": "low", "serializer": "pickle"}, "serializer='pickle': Ruby reads JSON only"),
        ({"queue": "low", "compression": "gzip"}, "no compressed job"),
        ({"queue": "low", "delivery_mode": 1}, "Redis keeps every job"),
        ({"queue": "low", "headers": {"a": 1}}, "a route in task_routes cannot carry headers"),
        ({"queue": "low", "sidekiq_options": {"retry": 1}}, "cannot carry sidekiq_options"),
        ({"queue": "low", "link": ["x"]}, "cannot carry link"),
        ({"queue": "bad name*"}, "cannot be the name of a queue"),
    ],
)
def test_what_a_route_adds_to_a_push_is_judged_as_well(app: Bridge, route: Any, said: str) -> None:
    app.conf.task_routes = {"HardJob": route}
    with pytest.raises(PushRefused, match=said):
        app.send_task("HardJob", sidekiq_options={"retry": 3})


def test_the_options_of_a_task_are_judged_where_it_is_pushed(app: Bridge) -> None:
    @app.task(name="ReportJob", shared=False, sidekiq_options={"retry": "yes"})
    def report() -> None:
        """Nothing."""

    for push in (report.delay, report.apply_async, lambda: app.send_task("ReportJob")):
        with pytest.raises(PushRefused, match="ReportJob: sidekiq_options: retry = 'yes'"):
            push()


@pytest.mark.parametrize("name", ["bridge.perform", "celery.backend_cleanup", "celery.chord_unlock"])
def test_a_task_that_runs_no_job_is_refused(app: Bridge, name: str) -> None:
    # Ruby has no such class: NameError, and 25 retries.
    with pytest.raises(PushRefused, match="runs no job by itself"):
        app.send_task(name)


def test_beat_adds_no_clean_up_of_results(app: Bridge) -> None:
    # Each night it pushed celery.backend_cleanup: an error in the log.
    schedule: dict[str, Any] = {}
    Scheduler(app, schedule=schedule, lazy=True).install_default_entries(schedule)
    assert not schedule


@pytest.mark.parametrize("name", [5, "", None])
def test_a_push_names_its_class(app: Bridge, name: Any) -> None:
    with pytest.raises(PushRefused, match="not the name of a class"):
        app.send_task(name)


@pytest.mark.parametrize(
    "canvas",
    [
        lambda task: task.map([1, 2]),
        lambda task: task.starmap([(1,), (2,)]),
        lambda task: task.chunks([(1,), (2,)], 1),
        lambda task: task.s(1).set(priority=3),
    ],
    ids=["map", "starmap", "chunks", "priority"],
)
def test_a_canvas_of_native_tasks_is_refused_and_pushes_nothing(app: Bridge, canvas: Any) -> None:
    @app.task(name="ReportJob", shared=False)
    def report(number: int = 0) -> None:
        """Nothing."""

    with pytest.raises(PushRefused, match="Sidekiq job"):
        canvas(report).apply_async()


def test_a_chord_whose_body_cannot_be_pushed_is_refused_before_anything_is_sent(app: Bridge) -> None:
    with pytest.raises(PushRefused, match="the order of -Q"):
        chord([job(app, 1), job(app, 2)], job(app, 3).set(priority=3), app=app).apply_async()
