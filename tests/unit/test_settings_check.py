from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Exchange, Queue

from bridge.celery import Bridge, make_app
from bridge.errors import ConfigurationError
from bridge.settings import load as load_settings
from bridge.worker import settings_check, vain_options


def app_with(environ: dict[str, str] | None = None, **settings: Any) -> Bridge:
    app = make_app(load_settings(environ or {}))
    app.conf.update(settings)
    return app


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("result_backend", "redis://:secret@h/0", "result_backend = 'redis://***@h/0' (set in app.conf)"),
        ("result_expires", None, "result_expires = None (set in app.conf): a result stays for a time"),
        ("task_compression", "gzip", "task_compression = 'gzip' (set in app.conf): Ruby reads"),
    ],
)
def test_a_setting_that_no_job_can_have_is_refused(setting: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        settings_check.check(app_with(**{setting: value}))
    assert said in str(error.value)


@pytest.mark.parametrize(
    "silent",
    [{"result_backend": None}, {"result_backend": "disabled"}, {"task_ignore_result": False}],
)
def test_what_says_what_is_so_is_accepted(silent: dict[str, Any]) -> None:
    settings_check.check(app_with(**silent))


@pytest.mark.parametrize(
    "setting", ["task_protocol", "task_queue_max_priority", "task_inherit_parent_priority"]
)
def test_a_setting_about_messages_is_named_as_one_without_an_effect(setting: str) -> None:
    (said,) = settings_check.in_vain(app_with(**{setting: 1}))
    assert said.startswith(f"{setting} (set in app.conf) has no effect: ")


def test_a_default_queue_that_the_worker_does_not_read_deserves_a_word() -> None:
    # Celery's worker reads it. Here each push waited in it, and no line said so.
    (said,) = settings_check.in_vain(app_with(task_default_queue="jobs"))
    assert said.endswith("this worker does not read it. Write BRIDGE_QUEUES=jobs, or -Q jobs")

    chosen = app_with({"BRIDGE_QUEUES": "other"}, task_default_queue="jobs")
    selected = app_with(task_default_queue="jobs")
    selected.amqp.queues.select(["other"])
    for app in (chosen, selected, app_with(task_default_queue="default")):
        assert not [*settings_check.in_vain(app)]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("broker_channel_error_retry", False),
        ("broker_connection_retry", False),
        ("broker_connection_timeout", 9),
        ("broker_heartbeat_checkrate", 5),
        ("event_queue_durable", True),
        ("event_queue_exclusive", False),
        ("event_queue_prefix", "shop"),
        ("worker_cancel_long_running_tasks_on_connection_loss", True),
        ("worker_detect_quorum_queues", False),
        ("worker_disable_prefetch", True),
        ("worker_enable_prefetch_count_reduction", True),
        ("worker_log_color", True),
        ("worker_log_datefmt", "%H"),
        ("worker_redirect_stdouts_level", "ERROR"),
        ("worker_state_db", "state"),
        ("worker_task_log_datefmt", "%H"),
    ],
)
def test_each_setting_without_an_effect_is_named(setting: str, value: Any) -> None:
    """A worker took each of these, and no line said that nothing came of it."""
    (said,) = settings_check.in_vain(app_with(**{setting: value}))
    assert said.startswith(f"{setting} (set in app.conf) has no effect: ")


def test_arguments_of_a_queue_are_named_as_those_without_an_effect() -> None:
    """The documentation of Celery has priorities, and quorum queues, as arguments of a queue."""
    plain = Queue("low", Exchange("low"), routing_key="low")
    rich = Queue("high", max_priority=10, queue_arguments={"x-queue-type": "quorum"}, expires=3)
    (said,) = vain_options.of_queues(app_with(task_queues=[plain, rich]))
    assert said.startswith(
        "the queue high in task_queues: queue_arguments, expires, max_priority have no effect, "
    )


def test_a_state_file_by_flag_is_named_as_one_without_an_effect() -> None:
    app = app_with(worker_state_db="set")
    (said,) = vain_options.of_flags(SimpleNamespace(app=app, statedb="given"))
    assert said.startswith("--statedb=given has no effect: ")
    assert not [*vain_options.of_flags(SimpleNamespace(app=app, statedb="set"))]  # named as a setting
    assert not [*vain_options.of_flags(SimpleNamespace(app=app, statedb=None))]
