"""Values that JSON can hold, and so Ruby."""

from __future__ import annotations

import math
from typing import Any

from bridge.errors import PushRefused
from bridge.sidekiq.payload.ruby_json import MAX_NESTING


def check_args(args: Any) -> None:
    """Raise PushRefused where a value could not be held by JSON, and so not by Ruby."""
    check_value(args, "args")


def check_value(value: Any, where: str, level: int = 2) -> None:
    """Raise PushRefused where JSON cannot hold a value. ``where`` names its place in the sentence.

    ``level``: the payload is the first, its arguments the second. A list that contains itself ends here too.
    """
    if isinstance(value, str):
        if not value.isascii():
            _check_text(value, where)
        return
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise PushRefused(f"{where} is {value}: JSON has no such number. Send null or a string instead.")
        return
    if level > MAX_NESTING:
        raise PushRefused(f"{where[:20]}... is nested deeper than the {MAX_NESTING} levels that Ruby reads.")
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            check_value(item, f"{where}[{i}]", level + 1)
        return
    if isinstance(value, dict):
        _check_object(value, where, level)
        return
    raise PushRefused(
        f"{where} is a {type(value).__name__}: a Sidekiq job carries only what JSON holds (strings, numbers, "
        "booleans, null, lists, objects with string keys). Convert it first: value.isoformat(), str(value)."
    )


def _check_object(value: dict[Any, Any], where: str, level: int) -> None:
    for key, item in value.items():
        if not isinstance(key, str):
            raise PushRefused(
                f"{where} has the key {key!r}: JSON objects have string keys only. Use str(key)."
            )
        if not key.isascii():
            _check_text(key, f"a key of {where}")
        check_value(item, f"{where}[{key!r}]", level + 1)


def _check_text(value: str, where: str) -> None:
    """Some releases of Ruby's JSON refuse the whole payload: no page of Sidekiq shows such a job."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = value[error.start]
        raise PushRefused(
            f"{where} has half of a surrogate pair ({half!r}): Ruby's JSON cannot read it. "
            'Write text.encode("utf-8", "replace").decode().'
        ) from None
