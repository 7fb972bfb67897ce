"""Finds arguments of real jobs that mean something else in Python than in Ruby."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bridge.moves.signature import Arguments, Parameter

#: A larger integer is exact in Python and Ruby, and not in every JSON library between them.
_SAFE = 2**53

Surprise = tuple[str, str, str]
"""Subject, what was seen, and what to do."""


def surprises(samples: Sequence[Arguments], parameters: Sequence[Parameter]) -> Iterator[Surprise]:
    """Each once."""
    counts = sorted({len(args) for args, _ in samples})
    if len(counts) > 1 and not any(each.prefix == "*" for each in parameters):
        seen = f"jobs have {counts[0]} to {counts[-1]} of them"
        yield "arguments", seen, "older jobs may wait with fewer: give the later ones a default"
    for each in parameters:
        if len([name for name in each.types if name != "None"]) > 1:
            yield "arguments", f"{each.name} is of several types: {each.annotation}", "handle each of them"
    values = [value for args, kwargs in samples for top in (args, kwargs) for value in _leaves(top)]
    if any(isinstance(value, str) and value.startswith("gid://") for value in values):
        seen = "records (GlobalID) come as their text, gid://app/Order/1"
        yield "arguments", seen, "push the id, or read it out of the text"
    if any(isinstance(value, dict) and "_aj_serialized" in value for value in values):
        seen = "a serializer of the app's own wrote some of them"
        yield "arguments", seen, "the task gets the serialised object: read it there, or push plain values"
    if any(type(value) is int and abs(value) > _SAFE for value in values):
        yield "arguments", "some integers have more than 53 bits", "keep them as integers, not as floats"


def _leaves(value: Any) -> Iterator[Any]:
    """A value, and all that is in it; bounded by the payload, which was parsed already."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        yield each
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
