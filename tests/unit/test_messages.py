from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.broker import json_values, messages, push_policy
from bridge.errors import PushRefused
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.timestamps import Timestamps

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def message(args: Any = (), kwargs: Any = None, embed: Any = None, **headers: Any) -> tuple[Any, bytes]:
    """What kombu hands over for a push, and its body."""
    body = messages.encode_args([list(args), kwargs or {}, embed or {}])
    return {"headers": {"task": "HardJob", "id": "j" * 24, **headers}, "properties": {}}, body


def pushed(*args: Any, now: float = 1000.0, **headers: Any) -> messages.Push:
    return messages.to_push("default", *message(args, **headers), Timestamps.SECONDS, now)


def unit(**fields: Any) -> UnitOfWork:
    payload = json.dumps({"class": "HardJob", "jid": "abc", "args": [1], **fields}).encode()
    return UnitOfWork(Delivery("me", 7, "low", payload, 5), SidekiqJob.parse(payload))


def sent(work: UnitOfWork, **options: Any) -> messages.JobMessage:
    given = {"native": False, "show_args": False, **options}
    return messages.from_unit(work, None, messages.RUBY_TASK, **given)


# -- pushing


@given(st.lists(any_json, max_size=4))
def test_what_json_holds_is_pushed_as_it_is(args: list[Any]) -> None:
    assert json.loads(pushed(*args).payload)["args"] == args


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), object(), datetime.now(UTC), b"bytes", {1, 2}, {1: "x"}, 1j]
)
def test_what_json_cannot_hold_is_refused_and_its_place_named(value: Any) -> None:
    with pytest.raises(PushRefused, match=r"args\[1\]\[0\]"):
        json_values.check_args(["fine", [value]])


@pytest.mark.parametrize("option", ["expires", "priority"])
def test_what_sidekiq_has_no_place_for_is_refused_with_advice(option: str) -> None:
    with pytest.raises(PushRefused, match="HardJob: a Sidekiq job cannot carry"):
        push_policy.check("HardJob", None, {option: "x"})


def test_keyword_arguments_are_refused_by_name() -> None:
    with pytest.raises(PushRefused, match=r"\(a, b\)"):
        push_policy.check("HardJob", {"b": 1, "a": 2}, {})


@pytest.mark.parametrize("embed", [{"callbacks": ["x"]}, {"chord": "x"}, {"chain": ["x"]}])
def test_a_canvas_that_reaches_the_channel_is_refused_there_too(embed: dict[str, Any]) -> None:
    with pytest.raises(PushRefused):
        messages.to_push("default", *message(embed=embed), Timestamps.SECONDS, 1.0)


def test_a_job_for_later_has_no_time_of_enqueueing() -> None:
    later = pushed(eta="1970-01-01T00:20:00+00:00")
    assert later.at == 1200.0
    assert "enqueued_at" not in json.loads(later.payload)


def test_a_job_for_a_time_gone_by_is_pushed_now() -> None:
    now = pushed(eta="1970-01-01T00:00:05+00:00")
    assert now.at is None
    assert json.loads(now.payload)["enqueued_at"] == 1000.0


def test_options_of_the_class_cannot_change_who_the_job_is() -> None:
    fields = json.loads(
        pushed(1, sidekiq_options={"retry": 3, "tags": ["a"], "class": "Other", "jid": "other"}).payload
    )
    assert (fields["class"], fields["jid"], fields["retry"], fields["tags"]) == (
        "HardJob",
        "j" * 24,
        3,
        ["a"],
    )


# -- claimed jobs


def test_no_key_of_a_payload_becomes_a_header_that_celery_obeys() -> None:
    bad = unit(
        timelimit=[1, 1], expires=1, eta="2000-01-01", callbacks=["x"], stamps={}, task="celery.backend"
    )
    headers = sent(bad).headers
    assert set(headers) == set(sent(unit()).headers)
    assert headers["task"] == messages.RUBY_TASK


def test_a_message_carries_its_delivery_untouched_and_shows_no_arguments() -> None:
    work = unit(args=["secret"])
    made = sent(work)
    assert made.headers[messages.DELIVERY_HEADER] is work.delivery
    assert made.delivery_tag == 7
    assert "secret" not in made.headers["argsrepr"]
    assert "secret" in sent(work, show_args=True).headers["argsrepr"]


def test_a_retried_job_shows_its_attempts() -> None:
    assert sent(unit()).headers["retries"] == 0
    assert sent(unit(retry_count=0)).headers["retries"] == 1
    assert sent(unit(retry_count=-1)).headers["retries"] == 0


def test_a_job_without_a_jid_has_an_id_of_its_own() -> None:
    assert sent(unit(jid=None)).headers["id"] == "me/7"


def test_a_native_job_gets_its_arguments_and_a_ruby_job_none() -> None:
    assert list(sent(unit(), native=True).payload[0]) == [1]
    assert list(sent(unit()).payload[0]) == []


def test_datadogs_trace_reaches_its_python_library_and_nothing_else_of_the_payload_does() -> None:
    traced = unit(
        **{"x-datadog-trace-id": "12", "x-datadog-parent-id": "3", "x-datadog-tags": 5, "x-own": "no"}
    )

    assert sent(traced).headers["headers"] == {"x-datadog-trace-id": "12", "x-datadog-parent-id": "3"}
