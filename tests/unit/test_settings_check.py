from __future__ import annotations

from typing import Any

import pytest

from bridge.celery import Bridge, make_app
from bridge.errors import ConfigurationError
from bridge.settings import load as load_settings
from bridge.worker import settings_check


def app_with(environ: dict[str, str] | None = None, **settings: Any) -> Bridge:
    app = make_app(load_settings(environ or {}))
    app.conf.update(settings)
    return app


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("result_backend", "redis://:secret@h/0", "result_backend = 'redis://***@h/0' (set in app.conf)"),
        ("task_ignore_result", False, "task_ignore_result = False (set in app.conf): a Sidekiq job"),
        ("task_compression", "gzip", "task_compression = 'gzip' (set in app.conf): Ruby reads"),
    ],
)
def test_a_setting_that_no_job_can_have_is_refused(setting: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        settings_check.check(app_with(**{setting: value}))
    assert said in str(error.value)


@pytest.mark.parametrize(
    "silent",
    [{"result_backend": None}, {"result_backend": "disabled"}, {"task_ignore_result": True}],
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
