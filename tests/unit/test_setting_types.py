"""Settings that Celery would trip over later are refused; names that are nearly settings are named."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.celery import Bridge, make_app
from bridge.settings import load as load_settings
from bridge.worker import setting_types, settings_check

URL = "redis://127.0.0.1:1/0"


def app_with(**conf: Any) -> Bridge:
    app = make_app(load_settings({"BRIDGE_REDIS_URL": URL}))
    app.conf.update(conf)
    return app


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("worker_timer_precision", "x", "write a number"),  # a traceback
        ("worker_concurrency", "many", 'write a whole number of at least 1, or "auto"'),
        ("worker_concurrency", 0, 'write a whole number of at least 1, or "auto"'),
        ("worker_max_tasks_per_child", "some", "write a whole number"),
        ("task_time_limit", "1m", "write a number"),
        ("task_acks_late", "no", "write True or False"),
        ("worker_disable_rate_limits", "no", "write True or False"),  # it was True to Celery
        ("accept_content", "json", "write a list"),  # KeyError: 'j'
        ("task_publish_retry_policy", [3], "write a dict"),
        ("accept_content", ["a"], "kombu knows no such content"),  # KeyError: 'a'
        ("worker_timer", "x:Y", "cannot be loaded: No module named 'x'"),  # a traceback, as the next two
        ("worker_agent", "x:Y", "cannot be loaded: No module named 'x'"),
        ("worker_autoscaler", "x:Y", "cannot be loaded: No module named 'x'"),
        ("task_queues", {"a": 1}, "write a list"),  # TypeError
        ("task_queues", 7, "write a list"),
        ("worker_pool_restarts", True, "`celery control pool_restart` cuts running jobs off"),
        ("worker_pool_start_method", "spawn", "a pool process is a fork"),
        ("timezone", "Mars/Phobos", "this machine knows no such zone"),
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_with_what_to_write(name: str, value: Any, advice: str) -> None:
    app = app_with(**{name: value})
    said = setting_types.wrong(app) or settings_check.refused(app) or ""
    assert said.startswith(f"{name} = {value!r} (set in app.conf)")
    assert advice in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_concurrency", "auto"),
        ("worker_concurrency", "4"),
        ("task_time_limit", 3),
        ("broker_pool_limit", None),
        ("timezone", "Europe/Berlin"),
        ("imports", "json"),
        ("worker_send_task_events", 1),
        ("worker_pool", "prefork"),
        ("accept_content", ["json"]),
        ("task_queues", {"a": {"exchange": "a"}}),
    ],
)
def test_a_value_that_celery_takes_is_taken(name: str, value: Any) -> None:
    assert setting_types.wrong(app_with(**{name: value})) is None


def test_nothing_that_the_bridge_sets_is_wrong() -> None:
    assert setting_types.wrong(app_with()) is None
    assert not list(setting_types.near_names(app_with()))


def test_a_name_that_is_nearly_a_setting_is_named() -> None:
    """Celery keeps it, and reads it nowhere."""
    app = app_with(worker_concurency=5, task_acks_laet=True, my_own_setting=1)
    assert list(setting_types.near_names(app)) == [
        "worker_concurency (set in app.conf) has no effect: did you mean worker_concurrency?",
        "task_acks_laet (set in app.conf) has no effect: did you mean task_acks_late?",
    ]


def test_names_of_a_configuration_object_and_a_namespace_are_looked_at() -> None:
    class Config:
        DEBUG = True
        CELERY_WORKER_CONCURENCY = 5
        CELERY_TASK_TIME_LIMIT = 3
        WORKER_CONCURENCY = 7  # not Celery's

    app = make_app(load_settings({"BRIDGE_REDIS_URL": URL}))
    app.config_from_object(Config, namespace="CELERY")
    assert app.conf.task_time_limit == 3
    assert list(setting_types.near_names(app)) == [
        "worker_concurency (set in Config) has no effect: did you mean worker_concurrency?"
    ]


def test_old_names_of_celery_are_not_near_names() -> None:
    class Config:
        CELERYD_CONCURRENCY = 5
        CELERY_TASK_SERIALIZER = "json"

    app = make_app(load_settings({"BRIDGE_REDIS_URL": URL}))
    app.config_from_object(Config)
    assert not list(setting_types.near_names(app))
