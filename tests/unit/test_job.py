from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InvalidPayload, MalformedPayload, PayloadError
from bridge.sidekiq.outcome import poison_pill
from bridge.sidekiq.payload.invalid_entry import invalid_entry
from bridge.sidekiq.payload.job import SidekiqJob, new_jid
from bridge.sidekiq.payload.timestamps import Timestamps

OLD_WRAPPER = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
NEW_WRAPPER = "Sidekiq::ActiveJob::Wrapper"
PROPERTIES = [name for name, value in vars(SidekiqJob).items() if isinstance(value, property)]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def job(**fields: Any) -> SidekiqJob:
    return SidekiqJob.parse(json.dumps({name.rstrip("_"): value for name, value in fields.items()}).encode())


def active_job(*arguments: Any, wrapper: str = OLD_WRAPPER, wrapped: str = "WelcomeJob") -> SidekiqJob:
    return job(class_=wrapper, wrapped=wrapped, args=[{"job_class": wrapped, "arguments": arguments}])


def serialized(kind: str, value: Any) -> dict[str, Any]:
    return {"_aj_serialized": f"ActiveJob::Serializers::{kind}Serializer", "value": value}


def test_a_plain_job_says_what_its_payload_says() -> None:
    raw = b'{"class":"HardJob","args":[1,1.0],"jid":"b4a577edbccf1d805744efa9","queue":"low","retry":5}'
    parsed = SidekiqJob.parse(raw)
    assert parsed.raw is raw
    assert (parsed.job_class, parsed.native_class, parsed.display_class) == ("HardJob", "HardJob", "HardJob")
    assert (parsed.jid, parsed.queue, parsed.retry, parsed.args) == (
        "b4a577edbccf1d805744efa9",
        "low",
        5,
        [1, 1.0],
    )
    assert not parsed.is_active_job
    assert not parsed.ruby_only


@pytest.mark.parametrize("raw", [b"", b'{"class":', b"NaN", b"\xef\xbb\xbf{}", b"{} x"])
def test_check_38_what_ruby_cannot_parse_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedPayload):
        SidekiqJob.parse(raw)


def test_bytes_that_cannot_be_read_still_make_something_to_settle() -> None:
    unreadable = SidekiqJob.unreadable(b'{"class":')
    assert (unreadable.raw, unreadable.jid, unreadable.display_class) == (b'{"class":', None, None)


@pytest.mark.parametrize("raw", [b"123", b"[]", b"null", b'"text"', b"true", b"1.5"])
def test_check_39_json_that_is_not_an_object_is_invalid(raw: bytes) -> None:
    with pytest.raises(InvalidPayload):
        SidekiqJob.parse(raw)


@pytest.mark.parametrize(
    ("args", "expected"),
    [(None, []), ([], []), ({"a": 1}, [["a", 1]]), ("x", ["x"]), (0, [0]), (False, [False])],
)
def test_check_5_args_are_what_rubys_splat_makes_of_them(args: Any, expected: list[Any]) -> None:
    assert job(args=args).args == expected


def test_check_5_a_payload_without_args_has_none() -> None:
    assert job(class_="HardJob").args == []


@given(
    fields=st.dictionaries(
        st.sampled_from(["class", "args", "jid", "wrapped", "queue", "created_at"]), anything
    )
)
def test_no_property_raises_whatever_the_fields_hold(fields: dict[str, Any]) -> None:
    parsed = SidekiqJob.parse(json.dumps(fields).replace("Infinity", "1e999").encode())
    for name in PROPERTIES:
        getattr(parsed, name)
    parsed.native_arguments()


@given(arguments=anything, wrapper=st.sampled_from([OLD_WRAPPER, NEW_WRAPPER]))
def test_no_property_raises_whatever_an_active_job_holds(arguments: Any, wrapper: str) -> None:
    inner = {"arguments": arguments}
    parsed = SidekiqJob.parse(
        json.dumps({"class": wrapper, "args": [inner]}).replace("Infinity", "1e999").encode()
    )
    for name in PROPERTIES:
        getattr(parsed, name)
    parsed.native_arguments()


@pytest.mark.parametrize(
    ("jid", "expected"), [("abc", "abc"), (12, "12"), (None, None), ([1], None), (True, None)]
)
def test_a_jid_of_another_type_is_its_digits_or_none(jid: Any, expected: str | None) -> None:
    assert job(jid=jid).jid == expected


def test_text_with_lone_surrogates_can_be_encoded() -> None:
    assert SidekiqJob.parse(b'{"class":"A\\ud800"}').job_class == "A?"


@pytest.mark.parametrize(
    ("count", "expected"), [(0, 0), (-1, -1), (None, None), (True, None), ("3", None), (2.0, 2)]
)
def test_retry_count_is_an_integer_or_none(count: Any, expected: int | None) -> None:
    assert job(retry_count=count).retry_count == expected


def test_check_64_times_are_seconds_whatever_version_wrote_them() -> None:
    parsed = job(created_at=1_700_000_000.5, enqueued_at=1_700_000_000_500, failed_at=1_700_000_000)
    assert (parsed.created_at, parsed.enqueued_at) == (1_700_000_000.5, 1_700_000_000.5)
    assert parsed.failed_at == 1_700_000_000.0


def test_arguments_stay_out_of_the_repr() -> None:
    assert "secret" not in repr(job(args=["secret"]))


def test_with_fields_edits_only_the_fields_named() -> None:
    parsed = SidekiqJob.parse(b'{"args":[1.0], "queue":"a"}')
    assert parsed.with_fields({"queue": "b", "x": 1}) == b'{"args":[1.0], "queue":"b","x":1}'


@pytest.mark.parametrize("wrapper", [OLD_WRAPPER, NEW_WRAPPER])
def test_check_59_an_active_job_shows_the_wrapped_class(wrapper: str) -> None:
    parsed = active_job(wrapper=wrapper)
    assert parsed.is_active_job
    assert (parsed.display_class, parsed.native_class, parsed.job_class) == (
        "WelcomeJob",
        "WelcomeJob",
        wrapper,
    )


def test_a_wrapper_without_wrapped_shows_its_first_argument() -> None:
    assert job(class_=OLD_WRAPPER, args=["OldJob"]).display_class == "OldJob"


def test_a_wrapper_that_says_nothing_shows_itself() -> None:
    assert job(class_=OLD_WRAPPER).display_class == OLD_WRAPPER


def test_a_mail_shows_mailer_and_method() -> None:
    parsed = active_job("UserMailer", "welcome", "deliver_now", wrapped="ActionMailer::MailDeliveryJob")
    assert parsed.display_class == "UserMailer#welcome"


def test_display_class_of_the_payload_wins() -> None:
    assert job(class_="A", display_class="Shown").display_class == "Shown"


def test_active_job_arguments_become_python_values() -> None:
    parsed = active_job(
        1,
        "text",
        {"_aj_globalid": "gid://app/User/1"},
        {"a": serialized("Symbol", "x"), "_aj_symbol_keys": ["a"]},
        {"b": [serialized("Date", "2025-02-04")], "_aj_hash_with_indifferent_access": True},
        serialized("TimeWithZone", "2025-02-04T08:03:00.123456789Z"),
        {**serialized("Duration", 90), "parts": []},
        serialized("BigDecimal", "1.10"),
    )
    positional, keywords = parsed.native_arguments()
    assert positional[:4] == [1, "text", "gid://app/User/1", {"a": "x"}]
    assert positional[4] == {"b": [date(2025, 2, 4)]}
    assert positional[5] == datetime(2025, 2, 4, 8, 3, 0, 123456, tzinfo=UTC)
    assert positional[6:] == [timedelta(seconds=90), Decimal("1.10")]
    assert keywords == {}


def test_only_a_last_argument_marked_as_keywords_becomes_keywords() -> None:
    marked = {"id": 1, "_aj_ruby2_keywords": ["id"]}
    assert active_job(7, marked).native_arguments() == ([7], {"id": 1})
    assert active_job(marked, 7).native_arguments() == ([{"id": 1}, 7], {})


@pytest.mark.parametrize(
    "unreadable",
    [serialized("Date", "no date"), serialized("Own", 1), {"_aj_serialized": 5}, serialized("Time", None)],
)
def test_what_no_serializer_reads_stays_as_it_was_sent(unreadable: dict[str, Any]) -> None:
    assert active_job(unreadable).native_arguments() == ([unreadable], {})


def test_a_jid_is_24_hex_digits() -> None:
    assert new_jid(bytes(range(12))) == "000102030405060708090a0b"


def test_a_jid_of_too_few_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="12"):
        new_jid(b"short")


def test_check_39_an_invalid_payload_is_kept_whole_in_a_readable_entry() -> None:
    entry = SidekiqJob.parse(
        invalid_entry(b"[1, 2]", "low", "it is an array", 1_700_000_000.5, Timestamps.SECONDS)
    )
    assert (entry.job_class, entry.args, entry.queue, entry.retry) == (
        "Bridge::InvalidPayload",
        ["[1, 2]"],
        "low",
        False,
    )
    assert entry.fields["error_message"] == "it is an array"
    assert entry.failed_at == 1_700_000_000.5
    assert len(entry.jid or "") == 24


def test_an_invalid_payload_that_is_not_utf8_is_kept_in_base64_too() -> None:
    entry = SidekiqJob.parse(invalid_entry(b'"\xff"', "low", "why", 1.0, Timestamps.MILLISECONDS))
    assert entry.args == ['"\N{REPLACEMENT CHARACTER}"', "base64:Iv8i"]
    assert entry.fields["failed_at"] == 1000


@pytest.mark.parametrize("raw", [b'{"class":"A","args":}', b'{"a":}', b"[1}", b"x}"])
def test_bytes_that_are_not_a_job_are_not_edited(raw: bytes) -> None:
    """An edit wrote new fields before their last bracket, and raised no error."""
    with pytest.raises(PayloadError):
        SidekiqJob.unreadable(raw).with_fields({"queue": "default"})
    assert poison_pill.payload(SidekiqJob.unreadable(raw)) == raw
