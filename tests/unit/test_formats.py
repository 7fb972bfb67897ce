from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.monitoring.logs import setup
from bridge.monitoring.logs.formats import JsonFormat, TextFormat, redact
from bridge.monitoring.logs.job_lines import JobLog
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Decision, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.settlement import Settled

CANARY = "canary-5f1d"
FAILED = json.dumps({"args": [CANARY], "error_class": "KeyError", "error_message": "no such key"}).encode()


def unit(payload: dict[str, object] | None = None) -> UnitOfWork:
    fields = {"class": "HardJob", "jid": "b4a577", "args": [CANARY], **(payload or {})}
    raw = json.dumps(fields).encode()
    return UnitOfWork(Delivery("h:1:a", 1, "default", raw, 0), SidekiqJob.parse(raw), 100.0, 5.0, 0.25)


def record(message: str = "hello", *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("some.where", logging.WARNING, __file__, 1, message, args, None)
    made.__dict__.update(extra)
    return made


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    logger, found = logging.getLogger("bridge.job"), []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler, level = Keep(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


def lines(records: list[logging.LogRecord]) -> list[dict[str, object]]:
    return [json.loads(JsonFormat().format(each)) for each in records]


def test_a_run_is_two_lines_with_sidekiqs_fields(records: list[logging.LogRecord]) -> None:
    log = JobLog()
    log.started(unit())
    log.settled(unit(), Done(), Settled.OK)
    start, done = lines(records)
    assert (start["msg"], start["lvl"]) == ("start", "INFO")
    assert start["ctx"] == {"jid": "b4a577", "class": "HardJob", "queue": "default"}
    assert done["msg"] == "done"
    assert done["ctx"] == {
        "jid": "b4a577",
        "class": "HardJob",
        "queue": "default",
        "ran": "ruby",
        "elapsed": 0.25,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(done["ts"]))
    assert isinstance(done["pid"], int)
    assert re.fullmatch("[0-9a-z]+", str(done["tid"]))


@pytest.mark.parametrize(
    ("decision", "word"),
    [
        (Retry(1.0, FAILED), "retry"),
        (Bury(FAILED), "fail"),
        (Discard(), "fail"),
        (Interrupt(b"{}"), "interrupted"),
        (GiveBack(), "given back"),
    ],
)
def test_each_end_has_its_word(records: list[logging.LogRecord], decision: Decision, word: str) -> None:
    JobLog().settled(unit(), decision, Settled.OK)
    (line,) = lines(records)
    assert line["msg"] == word
    assert CANARY not in json.dumps(line)


def test_a_failure_names_its_error(records: list[logging.LogRecord]) -> None:
    JobLog().settled(unit(), Retry(1.0, FAILED), Settled.OK)
    context = lines(records)[0]["ctx"]
    assert isinstance(context, dict)
    assert (context["error_class"], context["error_message"]) == ("KeyError", "no such key")


def test_what_never_ran_has_no_line(records: list[logging.LogRecord]) -> None:
    waiting = unit()
    waiting.started_at = None
    JobLog().settled(waiting, GiveBack(), Settled.OK)
    JobLog().settled(unit(), Done(), Settled.FENCED)
    assert records == []


def test_an_argument_that_the_web_ui_shows_as_class_is_not_logged(records: list[logging.LogRecord]) -> None:
    wrapper = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
    JobLog().started(unit({"class": wrapper}))
    assert CANARY not in json.dumps(lines(records))


def test_the_wrapped_class_is_the_class(records: list[logging.LogRecord]) -> None:
    JobLog().started(
        unit({"class": "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper", "wrapped": "MyJob"})
    )
    assert "class=MyJob" in TextFormat().format(records[0])


def test_a_text_line_reads_like_sidekiqs() -> None:
    text = TextFormat().format(record("done", ctx={"class": "HardJob", "jid": "b4", "elapsed": 0.08}))
    assert re.fullmatch(r"WARN  \S+Z pid=\d+ tid=[0-9a-z]+ class=HardJob jid=b4 elapsed=0\.08: done", text)


def test_a_line_break_in_a_payload_forges_no_line(records: list[logging.LogRecord]) -> None:
    JobLog().started(unit({"jid": "x\nFATAL 2026 all is lost"}))
    assert "\n" not in TextFormat().format(records[0])
    assert "\n" not in JsonFormat().format(records[0])


HOSTILE = "x\n2026-11-30T03:00:00.000Z pid=1 tid=a class=Paid: done\x1b[2J\x9b2J\u2028\u202e\r\x00"


@pytest.mark.parametrize("place", ["message", "context", "exception", "stack"])
def test_control_characters_act_on_no_reader_of_the_log(place: str) -> None:
    """A message with a line break forged a record, and an escape sequence cleared the terminal."""
    trouble = (ValueError, ValueError(HOSTILE), None)
    text = TextFormat().format(
        record(
            HOSTILE if place == "message" else "done",
            ctx={"class": HOSTILE if place == "context" else "HardJob"},
            exc_info=trouble if place == "exception" else None,
            stack_info=HOSTILE if place == "stack" else None,
        )
    )
    assert not re.search(r"[^\n\x20-\x7e]", text)
    assert [line for line in text.split("\n")[1:] if not line.startswith("  ")] == []


@given(st.text(), st.text())
def test_no_text_begins_a_second_record(message: str, name: str) -> None:
    text = TextFormat().format(record("%s", message, ctx={"class": name}))
    assert all(line.startswith("  ") for line in text.split("\n")[1:])
    assert not set(text) & {"\x1b", "\r", "\x85", "\u2028", "\x00"}


@pytest.mark.parametrize("shape", [TextFormat(), JsonFormat()])
def test_passwords_of_urls_are_out_of_sight(shape: logging.Formatter) -> None:
    try:
        raise ValueError("cannot reach rediss://user:hunter2@host/0")
    except ValueError as error:
        trouble = (type(error), error, error.__traceback__)
    text = shape.format(record("lost %s", "redis://:hunter2@host:6379/0", exc_info=trouble))
    assert "hunter2" not in text
    assert "redis://***@host:6379/0" in text


def test_a_password_with_an_at_sign_is_out_of_sight() -> None:
    assert redact("redis://:p@ss@host/0 is away") == "redis://***@host/0 is away"


def test_what_celery_passes_as_extra_stays_out() -> None:
    """Celery passes the arguments of a failed task so."""
    assert CANARY not in JsonFormat().format(record("failed", data={"args": CANARY}))


@click.command()
@click.option("-l", "--loglevel", default="WARNING")
def command(loglevel: str) -> None:
    click.echo(setup._is_asked_for("loglevel"))


def test_the_default_of_the_celery_command_does_not_hide_our_level() -> None:
    """Celery says WARNING without -l: a worker that was started without a flag logged no job."""
    assert CliRunner().invoke(command, []).output == "False\n"
    assert CliRunner().invoke(command, ["-l", "WARNING"]).output == "True\n"
    assert setup._is_asked_for("loglevel")


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


@example(text="", name="infinite", value=math.inf)
@given(
    text=st.text(), name=st.text(), value=st.text() | st.integers() | st.floats(allow_nan=False) | st.none()
)
def test_whatever_is_said_one_line_is_one_object(text: str, name: str, value: object) -> None:
    # The objects are put together by hand, for speed.
    line = JsonFormat().format(record("%s", text, ctx={name: value}, levelname='"'))
    assert "\n" not in line
    found = json.loads(line, parse_constant=refuse)  # Python alone reads NaN and Infinity
    assert (found["msg"], found["lvl"]) == (redact(text), '"')
    shown = str(value) if isinstance(value, float) and not math.isfinite(value) else value
    assert found["ctx"] == {name: redact(shown) if isinstance(shown, str) else shown}


def test_a_context_that_json_cannot_hold_costs_no_line() -> None:
    line = JsonFormat().format(record("said", ctx={"odd": {(1, 2): "pair"}, "deep": [float("nan")]}))
    found = json.loads(line, parse_constant=refuse)
    assert found["ctx"] == {"odd": "{(1, 2): 'pair'}", "deep": "[nan]"}
