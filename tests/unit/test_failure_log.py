from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from bridge.execution import failure_log
from bridge.execution.outcomes import RubyError
from bridge.monitoring.logs.formats import JsonFormat, TextFormat
from bridge.sidecar.result import JobResult, Next, Status
from bridge.sidekiq.payload import backtrace
from bridge.sidekiq.payload.job import SidekiqJob

JOB = SidekiqJob.parse(b'{"class": "ReportJob", "jid": "b4a577", "args": ["canary-5f1d"]}')


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    level = failure_log.logger.level
    failure_log.logger.addHandler(handler)
    failure_log.logger.setLevel(logging.WARNING)
    yield found
    failure_log.logger.removeHandler(handler)
    failure_log.logger.setLevel(level)


def failed(message: str = "no canary-5f1d here") -> BaseException:
    try:
        raise KeyError(message)
    except KeyError as error:
        return error


def ruby_failed(*lines: str) -> RubyError:
    fields = {"error_backtrace": backtrace.encode(lines)} if lines else {}
    return RubyError(JobResult(Status.FAILED, 1.0, "Net::ReadTimeout", "too slow", Next("retry", fields)))


@pytest.mark.parametrize(("last", "level"), [(False, "WARN"), (True, "ERROR")])
def test_each_attempt_leaves_class_message_and_traceback(
    records: list[logging.LogRecord], last: bool, level: str
) -> None:
    # Of a native task that is retried the log had no traceback at all.
    failure_log.note(JOB, "default", failed(), last=last, wanted="all")

    (line,) = (json.loads(JsonFormat().format(record)) for record in records)
    assert line["lvl"] == level
    assert line["ctx"] == {
        "jid": "b4a577", "class": "ReportJob", "queue": "default", "ran": "python",
        "error_class": "KeyError", "error_message": "'no *** here'",
    }  # fmt: skip
    assert line["exc"].startswith("Traceback (most recent call last):")
    assert "test_failure_log.py" in line["exc"]


@pytest.mark.parametrize(
    ("wanted", "levels", "traced"),
    [("all", ["WARN", "ERROR"], True), ("last", ["ERROR"], True), ("none", ["ERROR"], False)],
)
def test_the_setting_reduces_them(
    records: list[logging.LogRecord], wanted: str, levels: list[str], traced: bool
) -> None:
    for last in (False, True):
        failure_log.note(JOB, "default", failed(), last=last, wanted=wanted)

    lines = [json.loads(JsonFormat().format(record)) for record in records]
    assert [line["lvl"] for line in lines] == levels
    assert all(("exc" in line) == traced for line in lines)


def test_a_failure_in_ruby_has_rubys_names_and_the_backtrace_that_was_reported(
    records: list[logging.LogRecord],
) -> None:
    failure_log.note(
        JOB, "default", ruby_failed("app/jobs/report.rb:7:in `perform'"), last=False, wanted="all"
    )
    failure_log.note(JOB, "default", ruby_failed(), last=False, wanted="all")

    with_trace, without = (TextFormat().format(record) for record in records)
    assert 'ran=ruby error_class=Net::ReadTimeout error_message="too slow"' in with_trace
    assert with_trace.splitlines()[1:] == ["  app/jobs/report.rb:7:in `perform'"]
    assert len(without.splitlines()) == 1


def test_celerys_own_line_about_the_last_failure_is_left_out(records: list[logging.LogRecord]) -> None:
    told, untold = failed(), failed()
    told.sidekiq_decision = object()  # type: ignore[attr-defined]

    failure_log.logger.error("Task raised unexpected", exc_info=told)
    failure_log.logger.error("Task raised unexpected", exc_info=untold)

    assert [record.exc_info and record.exc_info[1] for record in records] == [untold]


def test_an_error_of_any_line_has_class_and_message_for_filters() -> None:
    error = failed("disk full")
    record = logging.LogRecord("x", logging.ERROR, "", 1, "broken", (), (type(error), error, None))

    assert json.loads(JsonFormat().format(record))["ctx"] == {
        "error_class": "KeyError",
        "error_message": "'disk full'",
    }


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("throws", [(KeyError,), KeyError, (ValueError, LookupError)])
def test_an_error_that_the_task_expects_is_one_line_at_info(
    records: list[logging.LogRecord], last: bool, throws: object
) -> None:
    # It was a traceback at WARNING, and at ERROR for the last attempt.
    failure_log.note(JOB, "default", failed(), last=last, wanted="all", expected=throws)
    assert not records

    failure_log.logger.setLevel(logging.INFO)
    failure_log.note(JOB, "default", failed(), last=last, wanted="all", expected=throws)
    (line,) = (json.loads(JsonFormat().format(record)) for record in records)
    assert line["lvl"] == "INFO"
    assert "exc" not in line

    failure_log.note(JOB, "default", failed(), last=last, wanted="all", expected=(OSError,))
    assert records[-1].levelno >= logging.WARNING
