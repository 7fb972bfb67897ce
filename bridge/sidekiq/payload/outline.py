"""The fields of a large payload without its arguments, which Ruby alone needs where a Ruby class runs it.

To read 100 KB of small objects takes longer than all else that the worker does for a job. So this looks for
the place of ``args`` and reads what is before and behind. It only does so where clients write ``args`` as
Sidekiq does: an array that has no array or object beside it. The arguments are not read, so they may be
malformed; the sidecar's Ruby reads them next, and refuses such a job.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from bridge.sidekiq.payload import ruby_json

ARGS = b'"args":'
#: Smaller payloads are read as quickly as their outline, and so are those with few objects: long texts.
SMALLEST_BYTES = 2000
FEWEST_OBJECTS = 4


def outline(raw: bytes) -> dict[str, Any] | None:
    """All top-level fields but ``args``. None where the payload must be read to be sure of them."""
    if len(raw) < SMALLEST_BYTES or raw.count(b"{", 0, SMALLEST_BYTES) < FEWEST_OBJECTS:
        return None
    # The first bracket opens `args`, and the last one closes it, if all between is one array.
    start, end = raw.find(b"["), raw.rfind(b"]") + 1
    is_usual = (
        raw.startswith(ARGS, start - len(ARGS)) and raw.find(b"{", 1, start) < 0 and raw.find(b"{", end) < 0
    )
    if not is_usual or _may_hold_comments(raw):
        return None
    try:
        # Brackets within texts before and behind would cut those, and leave an odd number of quotes.
        fields = from_json(raw[:start] + b"null" + raw[end:], allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        return None
    if not isinstance(fields, dict) or fields.pop("args", "") is not None:
        return None
    return fields if ruby_json.is_one_array(raw[start:end]) else None


def _may_hold_comments(raw: bytes) -> bool:
    """Ruby reads comments. A quote in one would count as that of a text."""
    return b"\n" in raw or (b"*" in raw and b"/*" in raw)
