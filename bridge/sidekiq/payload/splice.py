"""Edits of single top-level fields in a payload's exact bytes; nothing else is read to be written again.

So ``1`` stays ``1`` and not ``1.0``, and big integers, escapes, invalid UTF-8, white space and comments
survive a retry. Payloads are edited when they are retried, promoted or buried, not when they succeed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bridge.errors import InvalidPayload, MalformedPayload
from bridge.sidekiq.payload.ruby_json import COMMENT, STRING, decode_string, encode, encode_value

__all__ = ["encode", "remove", "splice", "splice_known"]

_SPACE = rb"(?:[ \t\r\n]++|" + COMMENT + rb")*+"
_BLANK = re.compile(_SPACE)
_STRING = re.compile(STRING)
_SCALAR = re.compile(rb'[^ \t\r\n"/{}\[\],:]++')
#: A member whose value is neither array nor object, up to the next: nearly all of them, in one step.
_PLAIN = re.compile(
    rb"(" + STRING + rb")" + _SPACE + rb":" + _SPACE
    + rb"(" + STRING + rb"|" + _SCALAR.pattern + rb")" + _SPACE + rb"(,?+)" + _SPACE
)  # fmt: skip
_NESTED = re.compile(rb'[^"/\[\]{}]*+(?:' + STRING + rb"|" + COMMENT + rb"|([\[{])|([\]}]))")
_LETTERS = re.compile("[A-Za-z_]+")
#: Such an escape may be part of a member's name, which is then not found by its text.
_LETTER_ESCAPED = re.compile(rb"\\u00[4-7]")
#: For more members than that, one walk through all of them is quicker.
MOST_KNOWN = 12
#: Behind the name of a member: a value that is neither array nor object.
_KNOWN_VALUE = re.compile(_SPACE + rb":" + _SPACE + rb"(" + STRING + rb"|" + _SCALAR.pattern + rb")")


class _Member(NamedTuple):
    name: str
    start: int
    """Offset of the name's opening quote."""
    value_start: int
    end: int
    """Offset behind the value."""


def splice(raw: bytes, fields: Mapping[str, Any]) -> bytes:
    """``raw`` with these top-level fields set: an existing one keeps its place, a new one goes to the end.

    Of a field that occurs twice the last is set, because that is the one every reader sees.
    Raises MalformedPayload, InvalidPayload (not an object), ValueError (a new value is NaN or Infinity).
    """
    members = _members(raw)
    places = {member.name: member for member in members}
    pieces, position = [], 0
    for name, place in sorted(places.items(), key=lambda item: item[1].start):
        if name in fields:
            pieces += [raw[position : place.value_start], encode_value(fields[name])]
            position = place.end
    end = members[-1].end if members else _object_start(raw)
    new = {name: value for name, value in fields.items() if name not in places}
    return b"".join([*pieces, raw[position:end], _appended(new, first=not members), raw[end:]])


def splice_known(raw: bytes, fields: Mapping[str, Any], known: Mapping[str, Any]) -> bytes:
    """As ``splice``, where ``known`` is the object that Python's parser has read from ``raw``.

    It does not walk through the members if each place is sure: that takes several times as long as reading
    them, and every due entry is edited.
    """
    places = _known_places(raw, [name for name in fields if name in known])
    if places is None:
        return splice(raw, fields)
    pieces, position = [], 0
    for start, end, name in places:
        pieces += [raw[position:start], encode_value(fields[name])]
        position = end
    new = {name: value for name, value in fields.items() if name not in known}
    return b"".join([*pieces, raw[position:-1], _appended(new, first=False), b"}"])


def _known_places(raw: bytes, names: Sequence[str]) -> list[tuple[int, int, str]] | None:
    """Find the values of these members, in the order of their places. None if a place is not sure."""
    ends_plainly = raw[-1:] == b"}" and raw[-2:-1] not in b" \t\r\n{"
    if not ends_plainly or len(names) > MOST_KNOWN or _LETTER_ESCAPED.search(raw):
        return None
    places = []
    for name in names:
        literal = b'"%s"' % name.encode() if _LETTERS.fullmatch(name) else b""
        # The only text of that name is the member's: no other member or value has it.
        if not literal or raw.count(literal) != 1:
            return None
        value = _KNOWN_VALUE.match(raw, raw.index(literal) + len(literal))
        if value is None:
            return None
        places.append((*value.span(1), name))
    return sorted(places)


def remove(raw: bytes, names: Collection[str]) -> bytes:
    """``raw`` without any occurrence of these top-level fields. Raises MalformedPayload, InvalidPayload."""
    members = _members(raw)
    kept = [member for member in members if member.name not in names]
    if len(kept) == len(members):
        return raw
    body = b",".join(raw[member.start : member.end] for member in kept)
    return raw[: members[0].start] + body + raw[members[-1].end :]


def _appended(fields: Mapping[str, Any], *, first: bool) -> bytes:
    if not fields:
        return b""
    return (b"" if first else b",") + encode(fields)[1:-1]


def _members(raw: bytes) -> list[_Member]:
    return list(_scan(raw, _object_start(raw)))


def _object_start(raw: bytes) -> int:
    """Offset behind the opening brace."""
    start = _skip_blank(raw, 0)
    if raw[start : start + 1] != b"{":
        raise InvalidPayload("the payload is not a JSON object")
    return start + 1


def _scan(raw: bytes, position: int) -> Iterator[_Member]:
    position, more = _skip_blank(raw, position), True
    while more and raw[position : position + 1] == b'"':
        plain = _PLAIN.match(raw, position)
        if plain is not None:
            yield _Member(decode_string(plain[1]), position, plain.start(2), plain.end(2))
            position, more = plain.end(), bool(plain[3])
        else:
            member = _member(raw, position)
            yield member
            position, more = _behind_comma(raw, member.end)
    if raw[position : position + 1] != b"}":
        raise MalformedPayload(f"no JSON object: unexpected text at byte {position}")


def _behind_comma(raw: bytes, position: int) -> tuple[int, bool]:
    """The index at which the next member begins, and whether there may be one."""
    position = _skip_blank(raw, position)
    if raw[position : position + 1] != b",":
        return position, False
    return _skip_blank(raw, position + 1), True


def _member(raw: bytes, start: int) -> _Member:
    name = _expect(_STRING, raw, start)
    colon = _skip_blank(raw, name.end())
    if raw[colon : colon + 1] != b":":
        raise MalformedPayload(f"no JSON object: a colon is missing at byte {colon}")
    value_start = _skip_blank(raw, colon + 1)
    return _Member(decode_string(name[0]), start, value_start, _value_end(raw, value_start))


def _value_end(raw: bytes, start: int) -> int:
    first = raw[start : start + 1]
    if first in (b"{", b"["):
        return _nested_end(raw, start)
    return _expect(_STRING if first == b'"' else _SCALAR, raw, start).end()


def _nested_end(raw: bytes, start: int) -> int:
    depth, position = 0, start
    # Each token begins where the last one ended. A search would look through the rest of the text once for
    # each quote and each slash that begins nothing: 68 s for 400 kB of slashes.
    while token := _NESTED.match(raw, position):
        position = token.end()
        depth += bool(token[1]) - bool(token[2])
        if depth == 0:
            return position
    raise MalformedPayload(f"no JSON object: a bracket, string or comment is not closed at byte {position}")


def _expect(pattern: re.Pattern[bytes], raw: bytes, position: int) -> re.Match[bytes]:
    match = pattern.match(raw, position)
    if match is None:
        raise MalformedPayload(f"no JSON object: unexpected text at byte {position}")
    return match


def _skip_blank(raw: bytes, position: int) -> int:
    match = _BLANK.match(raw, position)
    return match.end() if match else position
