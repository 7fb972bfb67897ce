"""The ids that tie the lines and spans of one job together, in the worker, the sidecar and Rails.

Payloads hold the trace context as OpenTelemetry's Ruby instrumentation puts it there: W3C's headers as
top-level fields. The correlation id is the request that pushed the job, where Rails says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TRACE_FIELD = "traceparent"
TRACE_FIELDS = (TRACE_FIELD, "tracestate", "baggage")
#: The fields that may hold an id: of the request that pushed the job, or of its trace.
ID_FIELDS = frozenset([TRACE_FIELD, "correlation_id", "cattr"])
LONGEST_ID = 200
LONGEST_HEADER = 8192

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
#: Characters that are safe in a header and on a line of a log.
_HEADER = re.compile(r"[\x20-\x7e]+")


def correlation_id(fields: Mapping[str, Any]) -> str | None:
    """``correlation_id``, else the ``request_id`` of CurrentAttributes; None where the jid must do."""
    found = fields.get("correlation_id")
    if found is None and (attributes := fields.get("cattr")) is not None:
        found = _attributes(attributes).get("request_id")
    return found[:LONGEST_ID] if isinstance(found, str) and found else None


def trace_id(fields: Mapping[str, Any]) -> str | None:
    """The trace that the job was pushed in: 32 hex digits."""
    found = fields.get(TRACE_FIELD)
    match = _TRACEPARENT.fullmatch(found) if isinstance(found, str) else None
    return match[1] if match else None


def trace_headers(fields: Mapping[str, Any]) -> dict[str, str]:
    """W3C's headers out of a payload; nothing where ``traceparent`` is none."""
    if trace_id(fields) is None:
        return {}
    return {name: fields[name] for name in TRACE_FIELDS if _is_header(fields.get(name))}


def _is_header(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_HEADER and bool(_HEADER.fullmatch(value))


def _attributes(found: Any) -> Mapping[str, Any]:
    """An object with Sidekiq 6 and 7, a list of pairs with 8."""
    if isinstance(found, Mapping):
        return found
    try:
        return dict(found)
    except (TypeError, ValueError):
        return {}
