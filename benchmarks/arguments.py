"""Arguments of jobs with a given size: what a parser meets in them decides as much as their bytes."""

from __future__ import annotations

import json
from typing import Any

#: One line of an order, as an app serialises it: short strings, ids, a price, a time, a flag, a list.
_RECORD = {
    "id": 184467,
    "sku": "KB-2041-DE",
    "title": "Tastatur, schwarz, 105 Tasten (Gr\u00f6\u00dfe M)",
    "quantity": 2,
    "price": 49.9,
    "tax_rate": 0.19,
    "gift": False,
    "note": None,
    "tags": ["office", "sale"],
    "updated_at": "2026-11-30T09:15:27.113Z",
    "gid": "gid://shop/Product/184467",
}

_SENTENCE = 'The customer wrote: "Please deliver to the back door."\nThe driver has been told so. '


def arguments(shape: str, size: int) -> tuple[Any, ...]:
    """Arguments that are ``size`` bytes of JSON, a few bytes more or less.

    ``records`` are objects of short fields. ``text`` is one string of prose with quotes and line ends.
    """
    return (_text(size),) if shape == "text" else _records(size)


def global_id(size: int) -> tuple[Any, ...]:
    """Arguments of an ActiveJob, as ActiveJob serialises them: a record and options."""
    options = {"note": "", "_aj_ruby2_keywords": ["note"]}
    record = {"_aj_globalid": "gid://bridge-demo/Customer/1"}
    return (record, {**options, "note": _text(size - len(_json([record, options])))})


def _records(size: int) -> tuple[Any, ...]:
    one = len(_json(_RECORD)) + 1
    records = [{**_RECORD, "id": 184467 + number} for number in range(size // one)]
    return (records, _text(max(0, size - one * len(records))))


def _text(size: int) -> str:
    escaped = len(_json(_SENTENCE)) - 2
    wanted = max(0, size - 4)
    return (_SENTENCE * (wanted // escaped + 1))[: wanted * len(_SENTENCE) // escaped]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
