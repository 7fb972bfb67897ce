"""The fields that an entry of retry or dead needs to be shown by Sidekiq's pages.

`tests/conformance/test_odd_entries.py` opens the pages themselves.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sidekiq.outcome import poison_pill
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.pages import ORIGINAL

USUAL = {
    "class": "ReportJob", "jid": "b4a577edbccf1d805744efa9", "args": [], "queue": "default",
    "created_at": 1700000000.5, "enqueued_at": 1700000000500,
}  # fmt: skip
ERROR = {"queue": "default", "error_class": "ValueError", "error_message": "x", "failed_at": 1700000001.5}


def job(**more: Any) -> SidekiqJob:
    return SidekiqJob.parse(json.dumps({**USUAL, **more}).encode())


@pytest.mark.parametrize("more", [{}, {"tags": ["a"]}, {"retry_count": 3, "retried_at": 5}, {"bid": 7}])
def test_a_usual_job_gets_no_field_more(more: dict[str, Any]) -> None:
    assert job(**more).entry_fields(ERROR) == ERROR


def test_a_usual_job_is_not_looked_into() -> None:
    """The path of a failing job is short."""
    assert job().entry_fields(ERROR) is ERROR


def test_values_of_several_failures_are_kept_together() -> None:
    first = job(tags=5).entry_fields(ERROR)
    assert (first["tags"], first[ORIGINAL]) == ([], {"tags": 5})

    again = SidekiqJob.parse(job(tags=5, created_at="x").with_fields(first)).entry_fields(ERROR)

    assert again[ORIGINAL] == {"tags": 5, "created_at": "x"}


def test_the_page_of_a_retry_needs_the_time_of_its_first_failure() -> None:
    assert job(retry_count=-1).entry_fields({}) == {}
    assert job(retry_count=-1, tags=5).entry_fields({"retried_at": 7.5})["failed_at"] == 7.5


def test_a_job_without_times_that_a_person_kills_keeps_its_bytes() -> None:
    assert SidekiqJob.parse(b'{"class":"ReportJob","jid":"a","args":[],"queue":"low"}').entry_fields({}) == {}


@pytest.mark.parametrize("field", ["tags", "created_at", "retried_at", "error_backtrace", "jid", ORIGINAL])
@pytest.mark.parametrize(
    "value",
    [b"1e400", b"[-1e400]", b'{"a":1e400}', b"[" * 99 + b"]" * 99, b'"\xff"', b'["\\ud800",5]'],
    ids=repr,
)
def test_an_entry_can_be_written_and_read_whatever_a_field_holds(field: str, value: bytes) -> None:
    """Python reads ``1e400`` and writes no infinity: the settlement raised, and the worker stopped."""
    raw = b'{"class":"A","args":[],"tags":5,"%s":%s}' % (field.encode(), value)

    entry = SidekiqJob.parse(SidekiqJob.parse(raw).with_fields(SidekiqJob.parse(raw).entry_fields(ERROR)))

    assert entry.fields["error_class"] == "ValueError"
    assert type(entry.fields["jid"]) is str


@pytest.mark.parametrize("raw", [b'{"class":"A","tags":[1e400]}', b"no JSON"])
def test_a_poison_pill_is_buried_whatever_it_holds(raw: bytes) -> None:
    pill = SidekiqJob.parse(raw) if raw.startswith(b"{") else SidekiqJob.unreadable(raw)
    assert poison_pill.payload(pill).startswith(raw[:10])


@pytest.mark.parametrize("text", ["eJyLjgUAARUAuQ==", "eJyLjgUAARUAuQ==\n", "eAGLjgUAARUAuQ=="])
def test_an_empty_backtrace_of_rubys_is_one(text: str) -> None:
    """Of ``backtrace: 0``; Ruby's zlib and Python's write other bytes."""
    assert job(error_backtrace=text).entry_fields(ERROR) == ERROR


def test_a_number_stays_the_jid_as_text() -> None:
    assert job(jid=57).entry_fields(ERROR)["jid"] == "57"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    "jid", "class", "args", "queue", "tags", "created_at", "enqueued_at", "failed_at", "retried_at",
    "retry_count", "error_backtrace", "encrypt", "wrapped", ORIGINAL,
]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), anything))
def test_every_entry_ends_with_types_that_the_pages_show(fields: dict[str, Any]) -> None:
    odd = SidekiqJob(b"{}", {**USUAL, **fields})

    shown = {**USUAL, **fields, **odd.entry_fields(ERROR)}

    assert isinstance(shown["jid"], str)
    assert shown["jid"]
    assert isinstance(shown.get("tags") or [], list)
    for name in ("created_at", "enqueued_at", "retried_at", "failed_at"):
        assert shown.get(name) is None or 0 <= shown[name] < 1e14
    assert type(shown.get("retry_count") or 0) is int
