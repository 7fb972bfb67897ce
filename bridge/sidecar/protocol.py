"""How a delivery is written into requests, and a refusal read from replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

from bridge.sidecar import schema, schema_types
from bridge.sidecar.messages import Reply
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.payload import trace_context
from bridge.sidekiq.payload.job import SidekiqJob

#: How long a job may hold one connection before it is asked for again on a fresh request.
WAIT_MS = 25_000


_current_trace: Callable[[], Mapping[str, str]] | None = None
LONGEST_TRACE_WORD = 2048


def attach_trace(current: Callable[[], Mapping[str, str]]) -> None:
    """This worker makes spans: ``current`` gives W3C's headers for the one that is under way."""
    global _current_trace
    _current_trace = current


def is_tracing() -> bool:
    """Whether this worker makes spans."""
    return _current_trace is not None


def trace_headers() -> list[tuple[str, str]]:
    """For a request: the trace context of the calling job. A value that no header may hold stays out."""
    if _current_trace is None:
        return []
    return [
        (name, value) for name, value in _current_trace().items() if value.isascii() and value.isprintable()
    ]


def trace_word() -> str:
    """The same for a line of a stream: a space and one word, or nothing."""
    if _current_trace is None or not (found := _current_trace()):
        return ""
    word = urlencode(found)
    if len(word) > LONGEST_TRACE_WORD:
        word = urlencode({"traceparent": found["traceparent"]})
    return f" {word}"


def execute_headers(delivery: Delivery) -> list[tuple[str, str]]:
    job = SidekiqJob.parse(delivery.payload)
    count = job.retry_count
    correlation = trace_context.correlation_id(job.fields) or job.jid or delivery.name
    tracked = [("X-Bridge-Track", "1" if delivery.tracked else "value")] if delivery.is_reported else []
    return [
        *tracked,
        ("X-Bridge-Queue", quote(delivery.queue, safe="")),
        ("X-Bridge-Attempt", str(1 if count is None else count + 2)),
        ("X-Bridge-Delivery", delivery.name),
        ("X-Bridge-Claimed-At", str(delivery.claimed_at_ms)),
        ("X-Bridge-Recovered", str(delivery.recovered)),
        ("X-Bridge-Wait-Ms", str(WAIT_MS)),
        ("X-Bridge-Correlation-Id", _header_text(correlation)),
    ]


def _header_text(value: str) -> str:
    """A value that cannot break out of its header line."""
    return quote(value, safe="!#$&'()*+,/:;=?@[]~ ")


def path_of(delivery: Delivery) -> str:
    return f"/jobs/{quote(delivery.identity, safe=':')}/{delivery.token}"


def error_of(reply: Reply) -> tuple[str, str]:
    """The code and the sentence of a refusal."""
    try:
        said = schema.read(schema.ERROR, reply.body)
    except ValueError:
        return "unknown", schema_types.printable(reply.body[:200].decode("utf-8", "replace"))
    return said.code, schema_types.printable(said.message, 2000)
