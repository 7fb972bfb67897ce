"""Large payloads whose arguments are not read: what is told of them is what reading all would tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.errors import MalformedPayload
from bridge.sidekiq.payload import outline as outlines
from bridge.sidekiq.payload import ruby_json
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.outline import outline

FILLER = "x"
NAMES = ["args", "args", "args", "queue", "class", "jid", "tags", "a]", "[", '"args":[', "/*", "*/"]
SCALARS = [
    1,
    1.5,
    None,
    True,
    "a",
    "]",
    "[",
    '"',
    "\\",
    "],",
    '\\"],"jid":"',
    "}",
    "{",
    "/* ",
    " */",
    "\n",
    "//",
]
values = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(autouse=True, scope="module")
def of_any_size() -> Iterator[None]:
    """Outlines of small payloads too: examples are small, and so are many."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(outlines, "SMALLEST_BYTES", 0)
        patched.setattr(outlines, "FEWEST_OBJECTS", 0)
        yield


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Members in any order, also several of one name. Most have the size and form that allow an outline."""
    members = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(SCALARS) | values), max_size=5))
    filler = draw(st.sampled_from([FILLER, FILLER, [FILLER], [[FILLER], FILLER], {"a": FILLER}]))
    place = draw(st.integers(0, len(members)))
    members.insert(place, ("args", [filler, *draw(st.lists(values, max_size=3))]))
    texts = [f"{json.dumps(name)}:{json.dumps(value, separators=(',', ':'))}" for name, value in members]
    return f"{{{','.join(texts)}}}".encode()


@settings(max_examples=1000, deadline=None)
@given(raw=payloads())
@example(raw=b'{"args":["' + FILLER.encode() + b'"],"tags":["a"],"jid":"b"}')
@example(raw=b'{"args":["' + FILLER.encode() + b'"],"jid":"b]"}')
@example(raw=b'{"args":["' + FILLER.encode() + b'"],"args":null}')
@example(raw=b'{"x":"[","args":["' + FILLER.encode() + b'"]}')
@example(raw=b'[{"args":["' + FILLER.encode() + b'"]}]')
@example(raw=b'{"x":1,"\\u0061rgs":["' + FILLER.encode() + b'"],"args":[1]}')
def test_an_outline_has_all_fields_but_the_arguments(raw: bytes) -> None:
    expected, _ = ruby_json.parse(raw)
    found = outline(raw)
    if found is not None:
        assert found == {name: value for name, value in expected.items() if name != "args"}


@settings(max_examples=1000, deadline=None)
@given(
    raw=payloads(),
    place=st.floats(0, 1),
    text=st.sampled_from([b'"', b"[", b"]", b"/*", b"*/", b"//", b"\n", b"\\", b"{"]),
)
def test_an_outline_of_what_only_ruby_reads_is_right_as_well(raw: bytes, place: float, text: bytes) -> None:
    """A comment may hold half of a text. An outline would cut the fields at the wrong place."""
    cut = int(place * len(raw))
    raw = raw[:cut] + text + raw[cut:]
    try:
        expected, _ = ruby_json.parse(raw)
    except MalformedPayload:
        return
    if isinstance(expected, dict) and (found := outline(raw)) is not None:
        assert found == {name: value for name, value in expected.items() if name != "args"}


def sidekiqs(**more: Any) -> bytes:
    fields = {"retry": True, "queue": "default", "class": "A", "args": [[{"a": ["b"]}], FILLER], "jid": "j"}
    return json.dumps(
        {**fields, "created_at": 1.5, "enqueued_at": 2.5, **more}, separators=(",", ":")
    ).encode()


def test_a_payload_as_sidekiq_writes_it_has_an_outline() -> None:
    raw = sidekiqs(error_message='said "no"', retry_count=1)
    assert outline(raw) == {name: value for name, value in json.loads(raw).items() if name != "args"}


@pytest.mark.parametrize("more", [{"tags": ["a"]}, {"cattr": {"a": 1}}, {"error_message": "]"}, {"x": "/*"}])
def test_a_payload_with_more_in_it_has_none(more: dict[str, Any]) -> None:
    assert outline(sidekiqs(**more)) is None


def test_a_small_payload_and_a_long_text_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlines, "SMALLEST_BYTES", 2000)
    monkeypatch.setattr(outlines, "FEWEST_OBJECTS", 4)
    assert outline(sidekiqs()) is None
    assert outline(sidekiqs(args=["x" * 5000])) is None
    assert outline(sidekiqs(args=[{"a": "x" * 50}] * 50)) is not None


@pytest.mark.parametrize(("depth", "is_told"), [(98, True), (99, False), (100, False)])
def test_arguments_that_are_nested_too_deeply_have_none(depth: int, is_told: bool) -> None:
    """Ruby counts the object around them as well."""
    raw = sidekiqs(args=json.loads("[" * depth + f'["{FILLER}"]' + "]" * depth))
    assert (outline(raw) is not None) is is_told
    if is_told:
        ruby_json.parse(raw)


def test_the_arguments_are_read_when_they_are_asked_for() -> None:
    raw = sidekiqs()
    job, whole = SidekiqJob.claimed(raw), SidekiqJob.parse(raw)
    assert (job.jid, job.job_class, job.queue, job.is_outline) == ("j", "A", "default", True)
    assert job.args == whole.args
    assert (job.fields, job.is_outline) == (whole.fields, False)


def test_malformed_arguments_are_told_of_when_they_are_read() -> None:
    raw = sidekiqs().replace(b'["b"]', b'["b"b]')
    job = SidekiqJob.claimed(raw)
    with pytest.raises(MalformedPayload):
        job.read_whole()
    assert job.args == []
    assert job.entry_fields({"retry_count": 0})["retry_count"] == 0
