from __future__ import annotations

from typing import Any

import pytest

from bridge.sidekiq.payload import trace_context

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"correlation_id": "abc"}, "abc"),
        ({"cattr": {"tenant": "a", "request_id": "r1"}}, "r1"),
        ({"cattr": [["tenant", "a"], ["request_id", "r1"]]}, "r1"),
        ({"cattr": {"tenant": "a"}}, None),
        ({"cattr": "text"}, None),
        ({"cattr": 7}, None),
        ({"correlation_id": {"a": 1}}, None),
        ({"correlation_id": "x" * 500}, "x" * 200),
        ({}, None),
    ],
)
def test_the_correlation_id_is_the_request_that_pushed_the_job(
    fields: dict[str, Any], expected: str | None
) -> None:
    assert trace_context.correlation_id(fields) == expected


def test_the_trace_is_read_from_the_top_level_of_the_payload() -> None:
    fields = {"traceparent": PARENT, "tracestate": "a=b", "baggage": "user=1", "other": "x"}
    assert trace_context.trace_id(fields) == "0af7651916cd43dd8448eb211c80319c"
    assert trace_context.trace_headers(fields) == {
        "traceparent": PARENT,
        "tracestate": "a=b",
        "baggage": "user=1",
    }


@pytest.mark.parametrize(
    "parent", [None, 7, "", "00-zz-b7ad6b7169203331-01", PARENT + "\r\nX-Evil: 1", ["a"]]
)
def test_what_is_no_traceparent_goes_nowhere(parent: Any) -> None:
    assert trace_context.trace_headers({"traceparent": parent, "baggage": "user=1"}) == {}
    assert trace_context.trace_id({"traceparent": parent}) is None


def test_a_header_that_would_break_its_line_stays_behind() -> None:
    fields = {"traceparent": PARENT, "tracestate": "a\r\nX-Evil: 1", "baggage": "x" * 10_000}
    assert trace_context.trace_headers(fields) == {"traceparent": PARENT}
