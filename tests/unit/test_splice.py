from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InvalidPayload, MalformedPayload
from bridge.sidekiq.payload import ruby_json
from bridge.sidekiq.payload.splice import remove, splice, splice_known

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["retry", "enqueued_at", "queue", "args", "é", 'a"b', "a\\b", ""]) | st.text(
    max_size=4
)
objects = st.dictionaries(names, values, max_size=6)
layouts = st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}])


def test_an_existing_field_keeps_its_place_and_a_new_one_goes_to_the_end() -> None:
    raw = b'{"retry":true,"queue":"a","jid":"1"}'
    assert (
        splice(raw, {"queue": "b", "retry_count": 0})
        == b'{"retry":true,"queue":"b","jid":"1","retry_count":0}'
    )


def test_everything_else_survives_byte_for_byte() -> None:
    untouched = (
        b'"args":[1.0, 1,1e2 ,"\\u00e9\xc3\xa9\xff/*}*/", 123456789012345678901234567890,{"queue":[]}]'
    )
    raw = b' { /* } */ "queue" : "a" ,\n' + untouched + b', // ]\n"z":-0 }\n'
    assert splice(raw, {"queue": "b"}) == raw.replace(b'"a"', b'"b"')


def test_of_a_field_that_occurs_twice_the_last_is_set() -> None:
    assert splice(b'{"a":1,"b":2,"\\u0061":3}', {"a": 4}) == b'{"a":1,"b":2,"\\u0061":4}'


def test_fields_of_nested_objects_are_never_touched() -> None:
    raw = b'{"args":[{"queue":"x"}],"cattr":{"queue":"y"}}'
    assert splice(raw, {"queue": "z"}) == raw[:-1] + b',"queue":"z"}'


@pytest.mark.parametrize(
    ("raw", "expected"), [(b"{}", b'{"a":1}'), (b"{ }", b'{"a":1 }'), (b"{/**/}", b'{"a":1/**/}')]
)
def test_an_empty_object_takes_its_first_field(raw: bytes, expected: bytes) -> None:
    assert splice(raw, {"a": 1}) == expected


def test_nothing_to_set_leaves_the_same_bytes() -> None:
    assert splice(b'{"a" : 1}', {}) == b'{"a" : 1}'


@pytest.mark.parametrize("raw", [b"[]", b"123", b"null", b'"{}"'])
def test_what_is_not_an_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidPayload):
        splice(raw, {"a": 1})


@pytest.mark.parametrize(
    "raw", [b"{", b'{"a"', b'{"a":', b'{"a":[', b'{"a":1', b'{"a" 1}', b'{"a":"', b"{1:2}"]
)
def test_what_is_cut_off_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedPayload):
        splice(raw, {"b": 1})


@given(document=objects, fields=objects, layout=layouts)
def test_reading_a_spliced_payload_shows_the_new_values_and_the_old_rest(
    document: dict[str, Any], fields: dict[str, Any], layout: dict[str, Any]
) -> None:
    raw = json.dumps(document, **layout).encode()
    assert ruby_json.parse(splice(raw, fields))[0] == {**document, **fields}


@given(document=objects, fields=objects, layout=layouts)
def test_an_object_that_was_read_before_is_edited_to_the_same_bytes(
    document: dict[str, Any], fields: dict[str, Any], layout: dict[str, Any]
) -> None:
    raw = json.dumps(document, **layout).encode()
    assert splice_known(raw, fields, document) == splice(raw, fields)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"at":1,"b":2}',
        b'{"b":[1,{"at":2}],"at":{"c":1}}',
        b'{"b":{"at":2},"at":1}',  # the name of a nested member, too
        b'{"b":"at","at":1}',  # a text that is the name
        b'{"b":"at","\\u0061t":1}',  # the name has an escape, and a text is that name
        b'{"b":"\\"at","\\u0061t":1}',
        b'{"b":{"at":3},"\\u0061t":1}',
        b'{"b":"\\u00fc","at":1}',
        b'{"at":1,"at":2}',
        b'{"at" : "x\\"}" , "b":[{}]}',
        b'{"b":{"at":1}}',
        b'{"at":1} ',
        b'{"at":1 }',
        b"{}",
    ],
)
@pytest.mark.parametrize("fields", [{"at": 7}, {"at": 7, "new": "n"}, {"b": 0, "at": 7}, {"new": 1}, {}])
def test_an_object_that_was_read_before_has_its_fields_where_the_walk_finds_them(
    raw: bytes, fields: dict[str, Any]
) -> None:
    assert splice_known(raw, fields, json.loads(raw)) == splice(raw, fields)


@given(document=objects, fields=objects)
def test_the_order_of_fields_is_that_of_an_updated_dict(
    document: dict[str, Any], fields: dict[str, Any]
) -> None:
    spliced = json.loads(splice(json.dumps(document).encode(), fields))
    assert list(spliced) == list({**document, **fields})


@given(document=objects, gone=st.sets(names, max_size=4), layout=layouts)
def test_a_removed_field_is_gone_and_the_rest_is_still_there(
    document: dict[str, Any], gone: set[str], layout: dict[str, Any]
) -> None:
    raw = json.dumps(document, **layout).encode()
    assert json.loads(remove(raw, gone)) == {
        name: value for name, value in document.items() if name not in gone
    }


def test_remove_takes_every_occurrence_and_keeps_the_bytes_of_the_others() -> None:
    assert remove(b'{"a":1,"b": 1.0 ,"a":2}', {"a"}) == b'{"b": 1.0}'


def test_remove_of_an_absent_field_leaves_the_same_bytes() -> None:
    assert remove(b'{ "a" : 1 }', {"b"}) == b'{ "a" : 1 }'


SIZE = 400_000


@pytest.mark.parametrize(
    "unfinished",
    [b"/" * SIZE, b'\\"' * (SIZE // 2), b'"\\' * (SIZE // 2), b"/*" * (SIZE // 2), b'/"' * (SIZE // 2)],
)
@pytest.mark.parametrize("opening", [b'{"a":[', b'{"a":{"b":"', b'{"a":"'])
def test_text_that_begins_much_and_finishes_nothing_is_refused_in_linear_time(
    opening: bytes, unfinished: bytes
) -> None:
    """400 kB of slashes in an array took 68 s: each of them was looked for in the rest of the text."""
    raw = opening + unfinished + b"}"
    began = time.process_time()
    with pytest.raises(MalformedPayload):
        splice(raw, {"x": 1})
    assert time.process_time() - began < 3


def test_many_fields_are_set_in_linear_time() -> None:
    """Each field that was set copied the whole payload."""
    names = [f"k{number}" for number in range(40_000)]
    raw = json.dumps(dict.fromkeys(names, 1)).encode()
    began = time.process_time()
    assert json.loads(splice(raw, dict.fromkeys(names, 2))) == dict.fromkeys(names, 2)
    assert time.process_time() - began < 5
