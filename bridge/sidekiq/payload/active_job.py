"""ActiveJob's half of a payload: the wrapper class names and the encoding of arguments.

Follows activejob 6.1 to 8.0, ``arguments.rb`` and ``serializers/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from bridge.sidekiq.payload.ruby_json import Json

#: Rails' own adapter (and Sidekiq up to 7.3), and Sidekiq 8's.
WRAPPERS = frozenset({"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper", "Sidekiq::ActiveJob::Wrapper"})
MAILERS = frozenset({"ActionMailer::DeliveryJob", "ActionMailer::MailDeliveryJob"})

_GLOBAL_ID = "_aj_globalid"
_SERIALIZED = "_aj_serialized"
_KEYWORDS = "_aj_ruby2_keywords"
#: Marks that only say how Ruby spells the keys; in Python every key is a string.
_KEY_MARKS = frozenset({"_aj_symbol_keys", "_aj_hash_with_indifferent_access", _KEYWORDS})


def arguments(serialized: object) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments as Python values.

    Symbols become strings, times ``datetime``, dates ``date``, durations ``timedelta``, models their GlobalID
    URI. A dict that no serializer here can read stays as it is. Only a last argument that Ruby marked as
    keywords becomes keywords.
    """
    if not isinstance(serialized, list):
        return [], {}
    last = serialized[-1] if serialized else None
    if isinstance(last, dict) and _KEYWORDS in last:
        return [deserialize(argument) for argument in serialized[:-1]], deserialize(last)
    return [deserialize(argument) for argument in serialized], {}


def deserialize(argument: Json) -> Json:
    """One argument, at any depth."""
    if isinstance(argument, list):
        return [deserialize(element) for element in argument]
    return _hash(argument) if isinstance(argument, dict) else argument


def _hash(argument: dict[str, Json]) -> Json:
    if len(argument) == 1 and _GLOBAL_ID in argument:
        return argument[_GLOBAL_ID]
    if _SERIALIZED in argument:
        return _object(argument)
    return {key: deserialize(value) for key, value in argument.items() if key not in _KEY_MARKS}


def _object(argument: Mapping[str, Json]) -> Json:
    name = argument[_SERIALIZED]
    reader = _READERS.get(name) if isinstance(name, str) else None
    try:
        return reader(argument["value"]) if reader else argument
    except (KeyError, TypeError, ValueError, OverflowError, InvalidOperation):
        return argument  # a value that does not fit its serializer: the task sees what was sent


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def _serializer(name: str) -> str:
    return f"ActiveJob::Serializers::{name}Serializer"


_READERS: Mapping[str, Callable[[Any], Any]] = {
    _serializer("Symbol"): str,
    _serializer("Module"): str,
    _serializer("Time"): datetime.fromisoformat,
    _serializer("DateTime"): datetime.fromisoformat,
    _serializer("TimeWithZone"): datetime.fromisoformat,
    _serializer("Date"): date.fromisoformat,
    _serializer("Duration"): _seconds,
    _serializer("BigDecimal"): Decimal,
}
