from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Task
from celery.worker.request import Request

from bridge.celery import Bridge, make_app
from bridge.errors import ConfigurationError
from bridge.execution.request import SidekiqRequest
from bridge.settings import load as load_settings
from bridge.worker import control


class OwnRequest(Request):
    """As Celery's guide shows it."""


class OwnSidekiqRequest(SidekiqRequest):
    """As the bridge's page shows it."""


@pytest.fixture
def app() -> Bridge:
    found = make_app(load_settings({}))
    found.set_current()
    found.loader.import_task_module("bridge.tasks")
    return found


def register(app: Bridge, **options: Any) -> Any:
    @app.task(name="ReportJob", shared=False, **options)
    def report() -> None:
        """Nothing."""

    return report


def forget_others(app: Bridge) -> None:
    """Every application gets the tasks that another test module has registered."""
    for name in {*app.tasks} - {"ReportJob", "bridge.perform"}:
        del app.tasks[name]


def refused(app: Bridge) -> str:
    forget_others(app)
    with pytest.raises(ConfigurationError) as error:
        app.bridge.task_policy.enforce()
    return str(error.value)


REFUSED: list[tuple[str, Any, str]] = [
    ("autoretry_for", ("ValueError",), "a tuple of exception classes"),
    ("dont_autoretry_for", (5,), "a tuple of exception classes"),
    ("default_retry_delay", "60", "write seconds"),
    ("default_retry_delay", -1, "write seconds"),
    ("retry_backoff", "2", "True, or seconds"),
    ("retry_backoff_max", -5, "write seconds"),
    ("retry_kwargs", {"queue": "low"}, "countdown, eta and max_retries"),
    ("retry_kwargs", {"max_retries": "5"}, "countdown, eta and max_retries"),
    ("retry_kwargs", 5, "countdown, eta and max_retries"),
    ("acks_late", False, "a job is settled after its run"),
    ("acks_late", 0, "a job is settled after its run"),
    ("acks_on_failure", False, "instead of in retry"),
    ("acks_on_timeout", False, "time limit"),
    ("acks_on_failure_or_timeout", False, "a failed job"),
    ("reject_on_worker_lost", True, "gives back the job of a process that died"),
    ("retry_on_worker_lost", True, "gives back the job of a process that died"),
    ("Request", OwnRequest, "bridge.execution.request.SidekiqRequest"),
    ("Request", "celery.worker.request:Request", "bridge.execution.request.SidekiqRequest"),
    ("Request", "nowhere:Request", "Correct the name"),
    ("Strategy", "nowhere:strategy", "Correct the name"),
    ("rate_limit", "often", '"10/s"'),
    ("rate_limit", "5/d", '"10/s"'),
    ("rate_limit", "-5/s", '"10/s"'),
    ("rate_limit", "nan/s", '"10/s"'),
    ("throws", ["KeyError"], "a tuple of exception classes"),
    ("throws", "KeyError", "a tuple of exception classes"),
    ("track", "yes", "True or False"),
    ("store_errors_even_if_ignored", True, "track=True"),
    ("store_eager_result", True, "Remove it"),
    ("backend", object(), "results are in Sidekiq's Redis"),
    ("priority", 5, "order of -Q"),
    ("priority", 0, "order of -Q"),
    ("expires", 60, "expires_in"),
    ("serializer", "pickle", 'serializer="json"'),
    ("serializer", "yaml", 'serializer="json"'),
    ("compression", "gzip", "no compressed job"),
    ("delivery_mode", 1, "Redis keeps every job"),
    ("mandatory", True, "no such option"),
    ("sidekiq_options", {"retry": "yes"}, "retry = 'yes': write true, false or a number"),
    ("sidekiq_options", {"unique_for": 5}, "unique_for: Sidekiq Pro"),
    ("sidekiq_options", [], "write an object"),
    ("max_retries", "5", "write a number of retries"),
    ("max_retries", -1, "write a number of retries"),
]


@pytest.mark.parametrize(("option", "value", "advice"), REFUSED)
def test_an_option_that_breaks_a_promise_is_refused_in_a_sentence(
    app: Bridge, option: str, value: Any, advice: str
) -> None:
    # An early ack lost each job that a crash met, and counted each failed one as done.
    register(app, **{option: value})

    said = refused(app)

    assert f"{option} = {value!r} of the task ReportJob" in said
    assert advice in said
    assert "\n" not in said


def test_a_strategy_that_celery_cannot_call_is_refused(app: Bridge) -> None:
    # Celery binds the function to the task: a traceback, and exit status 1.
    register(app, Strategy=lambda task, app, consumer: None)
    assert "Write its name, Strategy='mytasks:strategy'" in refused(app)


@pytest.mark.parametrize(
    "options",
    [
        {"acks_late": True, "ignore_result": True, "reject_on_worker_lost": False},
        {"Request": OwnSidekiqRequest},
        {"Strategy": "celery.worker.strategy:default"},
        {"rate_limit": "10/s"},
        {"serializer": "json", "track_started": True, "trail": False, "send_events": False},
        {"throws": KeyError},
        {"throws": (KeyError,), "typing": False, "resultrepr_maxsize": 10},
        {"delivery_mode": 2},
        {},
    ],
)
def test_an_option_that_works_is_accepted(app: Bridge, options: dict[str, Any]) -> None:
    register(app, **options)
    forget_others(app)
    app.bridge.task_policy.enforce()


class TestPaths:
    """Each path by which an attribute reaches a task. The sentence names the path."""

    @pytest.mark.parametrize("name", ["*", "ReportJob"])
    def test_an_annotation(self, app: Bridge, name: str) -> None:
        app.conf.task_annotations = {name: {"acks_late": False}}
        register(app)
        del app.tasks["bridge.perform"]
        assert "acks_late = False in task_annotations, for the task ReportJob" in refused(app)

    def test_an_annotation_of_the_task_of_all_ruby_jobs(self) -> None:
        fresh = make_app(load_settings({}))
        fresh.conf.task_annotations = {"*": {"acks_late": False}}
        assert "task_annotations, for the task bridge.perform" in refused(fresh)

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("task_retry_on_worker_lost", True),
            ("task_acks_on_failure_or_timeout", False),
            ("task_store_errors_even_if_ignored", True),
            ("task_default_priority", 3),
        ],
    )
    def test_a_setting(self, setting: str, value: Any) -> None:
        app = make_app(load_settings({}))
        app.conf[setting] = value
        register(app)
        del app.tasks["bridge.perform"]
        assert f"{setting} = {value!r}, for the task ReportJob" in refused(app)

    def test_a_base_class_of_celery(self, app: Bridge) -> None:
        register(app, base=type("Early", (Task,), {"abstract": True, "acks_late": False}))
        assert "acks_late = False of the task ReportJob" in refused(app)

    def test_a_class_that_is_registered(self, app: Bridge) -> None:
        class Report(Task):  # type: ignore[type-arg]
            name = "ReportJob"
            acks_late = False

            def run(self) -> None:
                """Nothing."""

        app.register_task(Report())
        assert "acks_late = False of the task ReportJob" in refused(app)

    def test_the_instance(self, app: Bridge) -> None:
        register(app).acks_late = False
        assert "acks_late = False of the task ReportJob" in refused(app)

    def test_a_task_beside_the_decorator(self, app: Bridge) -> None:
        class Report(Task):  # type: ignore[type-arg]
            name = "ReportJob"

        app.tasks.register(Report())
        assert "Register it with @app.task or app.register_task" in refused(app)

    def test_the_name_of_our_own_task(self) -> None:
        app = make_app(load_settings({}))
        app.task(name="bridge.perform", shared=False)(test_an_option_that_works_is_accepted)
        with pytest.raises(ConfigurationError, match="has the name of a task of the bridge"):
            app.finalize()

    def test_a_change_in_a_running_worker(self, app: Bridge) -> None:
        report = register(app)
        forget_others(app)
        app.bridge.task_policy.enforce()
        with pytest.raises(ConfigurationError, match="acks_late = False for the task ReportJob"):
            report.acks_late = False
        assert report.acks_late is True

    def test_a_task_that_a_running_worker_registers(self, app: Bridge) -> None:
        forget_others(app)
        app.bridge.task_policy.enforce()
        with pytest.raises(ConfigurationError, match="acks_late"):
            register(app, acks_late=False).run()
        assert "ReportJob" not in app.tasks


class TestRateLimits:
    """One limit on the task of all Ruby jobs ran them on the timer's thread and then stopped the worker."""

    @pytest.fixture
    def state(self, app: Bridge) -> Any:
        register(app)
        forget_others(app)
        app.bridge.task_policy.enforce()
        return SimpleNamespace(app=app, consumer=SimpleNamespace(reset_rate_limits=lambda: None))

    @pytest.mark.parametrize("setting", ["task_default_rate_limit", "task_annotations"])
    def test_one_for_all_tasks_is_refused(self, setting: str) -> None:
        app = make_app(load_settings({}))
        app.conf[setting] = {"*": {"rate_limit": "5/s"}} if setting == "task_annotations" else "5/s"
        said = refused(app)
        assert setting in said
        assert "hold the jobs of all Ruby classes" in said

    def test_a_command_is_refused_with_a_reply(self, state: Any) -> None:
        reply = control.rate_limit(state, "bridge.perform", "5/s")
        assert "hold the jobs of all Ruby classes" in reply["error"]
        assert state.app.tasks["bridge.perform"].rate_limit is None

    def test_a_ruby_class_has_none_here(self, state: Any) -> None:
        assert "has its limits in Ruby" in control.rate_limit(state, "HardJob", "5/s")["error"]

    def test_a_native_task_gets_its_limit(self, state: Any) -> None:
        assert "ok" in control.rate_limit(state, "ReportJob", "5/s")
        assert state.app.tasks["ReportJob"].rate_limit == "5/s"

    def test_what_is_no_rate_is_refused(self, state: Any) -> None:
        assert '"10/s"' in control.rate_limit(state, "ReportJob", "often")["error"]

    def test_limits_that_the_worker_disables_hold_nothing(self, app: Bridge) -> None:
        app.conf.worker_disable_rate_limits = True
        app.tasks["bridge.perform"].rate_limit = "5/s"
        forget_others(app)
        app.bridge.task_policy.enforce()


@pytest.mark.parametrize("queue", [{"queue": "bad name*"}, {"queue": "all", "exchange_type": "fanout"}])
def test_a_queue_that_no_worker_can_read_is_refused_with_a_reply(queue: dict[str, str]) -> None:
    assert control.add_consumer(None, **queue).keys() == {"error"}


def test_stamps_are_refused_with_a_reply() -> None:
    assert "by its jid" in control.revoke_by_stamped_headers(None, {"a": 1})["error"]


def test_an_attribute_that_is_nearly_an_option_is_named_and_one_of_the_users_own_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app(load_settings({}))

    @app.task(name="SlipJob", shared=False, acks_laet=True, ratelimit="1/s", color="red")
    def slip() -> None:
        """Nothing."""

    app.bridge.task_policy.enforce()

    said = [record.getMessage() for record in caplog.records if "SlipJob" in record.getMessage()]
    assert said == [
        "acks_laet of the task SlipJob has no effect: did you mean acks_late?",
        "ratelimit of the task SlipJob has no effect: did you mean rate_limit?",
    ]
