from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.errors import MalformedPayload
from bridge.sidekiq.payload import ruby_json

RUBY = shutil.which("ruby")

JUDGE = r"""
$stdout.sync = true
while (line = gets)
  text = line.unpack1("m").force_encoding("UTF-8")
  begin
    value = JSON.parse(text)
    again = JSON.generate([value]) rescue "unwritable"
    puts "accepted\t" + [again].pack("m0")
  rescue JSON::ParserError
    puts "refused\t"
  end
end
"""


class Ruby:
    """A real ``JSON.parse`` on the other end of a pipe."""

    def __init__(self) -> None:
        command = [str(RUBY), "-rjson", "-e", JUDGE]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def parse(self, raw: bytes) -> tuple[bool, bytes]:
        """Accepted or not, and what Ruby writes for ``[value]``."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(base64.b64encode(raw) + b"\n")
        self.process.stdin.flush()
        verdict, _, text = self.process.stdout.readline().partition(b"\t")
        return verdict == b"accepted", base64.b64decode(text)

    def close(self) -> None:
        self.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def ruby() -> Iterator[Ruby]:
    if RUBY is None:
        pytest.skip("no ruby on this machine")
    judge = Ruby()
    yield judge
    judge.close()


def python_parse(raw: bytes) -> tuple[bool, Any]:
    try:
        return True, ruby_json.parse(raw)[0]
    except MalformedPayload:
        return False, None


TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"a"',
    b'"',
    b"\\",
    b"\\u",
    b"00e9",
    b"ZZZZ",
    b"1",
    b"0",
    b"-",
    b".",
]
TOKENS += [
    b"e",
    b"E+",
    b"/*",
    b"*/",
    b"//",
    b"\n",
    b" ",
    b"\t",
    b"\xff",
    b"\xc3\xa9",
    b"\x00",
    b"\x0b",
    b"\x7f",
    b"\xef\xbb\xbf",
]
TOKENS += [
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b"*",
    b"/",
    b"x",
    b'"\\q"',
    b'"\\u0041"',
    b'"b":',
    b'"a":1',
    b"[1]",
    b"/**/",
]
soup = st.lists(st.sampled_from(TOKENS), max_size=12).map(b"".join)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    raw = json.dumps(draw(documents), ensure_ascii=draw(st.booleans())).encode()
    place = draw(st.integers(0, len(raw)))
    cut = draw(st.integers(0, 2))
    return raw[:place] + draw(st.sampled_from(TOKENS)) + raw[place + cut :]


def has_surrogate_escape(raw: bytes) -> bool:
    """json 2.6 refuses a high surrogate that too little text follows; later ones and we take it."""
    return re.search(rb"\\ud[89a-f]", raw, re.IGNORECASE) is not None


@settings(max_examples=1500, deadline=None)
@given(raw=soup | damaged())
@example(raw=b"")
@example(raw=b" 1 ")
@example(raw=b"1//x")
@example(raw=b"1//x\n")
@example(raw=b"01")
@example(raw=b"-0")
@example(raw=b"1e400")
@example(raw=b"[1,]")
@example(raw=b"[-Infinity]")
@example(raw=b'"\\q"')
@example(raw=b'"\\uZZZZabcdefgh"')
@example(raw=b'"\\u\\001f"')
@example(raw=b'"\xce\\\xb4"')
@example(raw=b'{"\xedu":1}')
@example(raw=b'"a\\\tb"')
@example(raw=b'"a\x01b"')
@example(raw=b'"a/*\x01*/"')
@example(raw=b'"\xff"')
@example(raw=b'"\\\xc3\xa9"')
@example(raw=b"\xef\xbb\xbf{}")
@example(raw=b"1\x00")
@example(raw=b'{"a":1,"a":2}')
@example(raw=b"[" * 100 + b"]" * 100)
@example(raw=b"[" * 101 + b"]" * 101)
@example(raw=b'{"a":[' * 50 + b"]}" * 50)
@example(raw=b'{"a":[' * 50 + b"[]" + b"]}" * 50)
@example(raw=b'["' + b"[" * 300 + b'"]')
def test_what_ruby_accepts_is_accepted_and_what_it_refuses_is_refused(ruby: Ruby, raw: bytes) -> None:
    accepted_by_ruby, written_by_ruby = ruby.parse(raw)
    accepted, value = python_parse(raw)
    if has_surrogate_escape(raw):
        assert accepted or not accepted_by_ruby
        return
    assert accepted == accepted_by_ruby
    if accepted and written_by_ruby != b"unwritable":
        assert as_bytes(json.loads(written_by_ruby.decode("utf-8", "surrogateescape"))) == as_bytes([value])


def as_bytes(value: Any) -> bytes:
    """Ruby joins bytes that a needless escape had kept apart; as bytes both are the same."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")


@settings(max_examples=200, deadline=None)
@given(document=documents)
def test_what_is_written_here_ruby_reads_as_the_same_value(ruby: Ruby, document: Any) -> None:
    accepted, written = ruby.parse(ruby_json.encode_value(document))
    assert accepted
    assert json.loads(written) == [document]


@settings(max_examples=1500, deadline=None)
@given(raw=soup | damaged() | documents.map(lambda document: json.dumps(document).encode()))
@example(raw=b'"\\ud800"')
@example(raw=b"[1e400,-1e400,1e-400,-0,-0.0,18446744073709551616]")
@example(raw=b"[0.1000000000000000055511151231257827021181583404541015625,5e-324,1.7976931348623157e308]")
@example(raw=b'{"a":[[1]],"a":2,"":{"":0}}')
def test_the_fast_decoder_returns_what_pythons_own_returns(raw: bytes) -> None:
    try:
        expected = json.JSONDecoder(parse_constant=ruby_json._refuse_constant).decode(raw.decode())
    except ValueError:
        assert ruby_json_only(raw)
    else:
        value, ruby_only = ruby_json.parse(raw)
        assert (repr(value), ruby_only) == (repr(expected), False)


def ruby_json_only(raw: bytes) -> bool:
    try:
        return ruby_json.parse(raw)[1]
    except MalformedPayload:
        return True


PIECES = [
    b'"[[{"',
    b'"}]"',
    rb'"\\"',
    rb'"a\"["',
    rb'"\\\"{"',
    b"[]",
    b"{}",
    b'""',
    b'{"a]":[1]}',
    rb'"\u005b"',
]


@settings(max_examples=300, deadline=None)
@given(
    depth=st.integers(97, 102), inner=st.lists(st.sampled_from(PIECES), max_size=6), size=st.integers(0, 3)
)
def test_the_look_at_nesting_agrees_with_a_walk_through_the_brackets(
    depth: int, inner: list[bytes], size: int
) -> None:
    values = [*inner, b'"' + b"x" * 1000 * size + b'"']
    openers = [b'{"k":' if level % 2 else b"[" for level in reversed(range(depth))]
    closers = [b"}" if level % 2 else b"]" for level in range(depth)]
    raw = b"".join([*openers, b",".join(values), *closers])
    json.loads(raw)
    assert python_parse(raw)[0] == (ruby_json._nesting(raw) <= ruby_json.MAX_NESTING)


def test_a_value_that_a_later_one_hides_counts_for_the_nesting() -> None:
    hidden = b'{"a":' + b"[" * 100 + b"]" * 100 + b',"a":1}'
    with pytest.raises(MalformedPayload, match="nested deeper"):
        ruby_json.parse(hidden)


def test_integers_beyond_pythons_digit_limit_are_readable_text() -> None:
    digits = "9" * 5000
    assert ruby_json.parse(f'{{"a":{digits}}}'.encode()) == ({"a": digits}, True)


def test_invalid_utf8_and_comments_are_read_as_ruby_only() -> None:
    assert ruby_json.parse(b'{"a":/* why */"\xff"}') == ({"a": "\udcff"}, True)


def test_a_standard_payload_is_not_ruby_only() -> None:
    assert ruby_json.parse(b' {"a":1.0}\n') == ({"a": 1.0}, False)


@pytest.mark.parametrize(
    "raw", [b"[" * 100_000, b'["' * 60_000, b"[" * 200 + b"/* " * 100_000, b'{"a":' * 5000]
)
def test_hostile_nesting_is_refused_quickly_and_without_recursion(raw: bytes) -> None:
    with pytest.raises(MalformedPayload):
        ruby_json.parse(raw)


def test_payloads_are_written_compact_unescaped_and_on_one_line() -> None:
    assert (
        ruby_json.encode({"a": ["é\n", 1.0, 10**30]})
        == '{"a":["é\\n",1.0,1000000000000000000000000000000]}'.encode()
    )


def test_lone_surrogates_are_written_as_escapes_that_every_parser_takes() -> None:
    written = ruby_json.encode({"a": "\ud800-\udcff"})
    assert written == b'{"a":"\\ud800-\\udcff"}'
    assert json.loads(written) == {"a": "\ud800-\udcff"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        ruby_json.encode({"a": number})
