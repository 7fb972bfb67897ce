"""One trace from whoever pushed a job to where it runs, in Python and in Ruby, by the real exporter."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.stage import Stage
from tests.support.waiting import wait_for

CANARY = "canary-77ab1e"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PUSHED = f"00-{TRACE}-b7ad6b7169203331-01"

Span = dict[str, Any]


class Collector:
    """A collector of OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw = b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [{**_span(each), "service": service["service.name"]} for each in scope.spans]

    def of(self, jid: str) -> Span:
        """The one span of a job, waited for."""

        def found() -> list[Span]:
            return [span for span in self.spans if span["attributes"]["messaging.message_id"] == jid]

        wait_for(found, f"the span of {jid}", 30)
        (span,) = found()
        return span

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _span(span: Any) -> Span:
    return {
        "name": span.name,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "links": [link.trace_id.hex() for link in span.links],
        "failed": span.status.code == 2,
        "attributes": {each.key: each.value.string_value for each in span.attributes},
    }


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def start(stage: Stage, collector: Collector, style: str, pool: str) -> None:
    stage.start_sidecar()
    stage.start_worker(
        env={
            "BRIDGE_TRACING": style,
            "BRIDGE_POOL": pool,
            "BRIDGE_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
    )


def ruby_trace(stage: Stage, jid: str) -> str:
    stage.ledger.wait_for("traced", jid)
    return str(next(line["trace"] for line in stage.ledger.lines if line["event"] == "traced"))


def logged_trace(stage: Stage, jid: str) -> set[str]:
    assert stage.worker is not None
    wait_for(lambda: _lines(stage, jid, "done"), "the line of the job's end")
    return {line["ctx"]["trace_id"] for line in _lines(stage, jid, "start") + _lines(stage, jid, "done")}


def _lines(stage: Stage, jid: str, word: str) -> list[Any]:
    assert stage.worker is not None
    lines = [json.loads(line) for line in stage.worker.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["msg"] == word and line.get("ctx", {}).get("jid") == jid]


@pytest.mark.parametrize("pool", ["bridge", "threads"])
def test_a_ruby_job_goes_on_with_the_trace_of_who_pushed_it(
    bare_stage: Stage, collector: Collector, pool: str
) -> None:
    stage = bare_stage
    start(stage, collector, "child", pool)
    fields = {"class": "TracedJob", "args": [CANARY], "traceparent": PUSHED, "retry": True}
    jid = stage.push_job(fields)

    span = collector.of(jid)
    assert (span["trace"], span["parent"]) == (TRACE, "b7ad6b7169203331")
    assert (span["name"], span["service"]) == ("default process", "sidekiq-bridge")
    assert span["attributes"]["messaging.sidekiq.job_class"] == "TracedJob"
    assert ruby_trace(stage, jid) == f"00-{TRACE}-{span['id']}-01"
    assert logged_trace(stage, jid) == {TRACE}
    assert stage.sidecar is not None
    wait_for(lambda: f"jid={jid} trace_id={TRACE}" in stage.sidecar.process.log, "the sidecar's line")
    assert CANARY.encode() not in collector.raw


@pytest.mark.parametrize("pool", ["bridge", "prefork"])
def test_a_trace_goes_from_a_native_job_to_the_ruby_job_that_it_pushes(
    bare_stage: Stage, collector: Collector, pool: str
) -> None:
    stage = bare_stage
    start(stage, collector, "child", pool)
    parent = stage.push_job({"class": "NativePushJob", "args": ["TracedJob"], "retry": False})
    stage.ledger.wait_for("done", parent)
    (child,) = stage.ledger.args(parent)

    first, second = collector.of(parent), collector.of(child)
    assert first["parent"] == ""
    assert (second["trace"], second["parent"]) == (first["trace"], first["id"])
    assert ruby_trace(stage, child)[:52] == f"00-{first['trace']}-{second['id']}"
    assert logged_trace(stage, parent) == logged_trace(stage, child) == {first["trace"]}


def test_a_failure_is_named_by_its_class_and_keeps_the_trace_for_the_retry(
    bare_stage: Stage, collector: Collector
) -> None:
    stage = bare_stage
    start(stage, collector, "child", "bridge")
    jids = [
        stage.push_job({"class": name, "args": [CANARY], "traceparent": PUSHED, "retry": True})
        for name in ("FailJob", "NativeFailJob")
    ]
    spans = [collector.of(jid) for jid in jids]
    assert [(span["failed"], span["attributes"]["error.type"]) for span in spans] == [
        (True, "ArgumentError"),
        (True, "ValueError"),
    ]
    wait_for(lambda: stage.redis.zcard("retry") == 2, "both to be in retry")
    assert all(json.loads(each)["traceparent"] == PUSHED for each in stage.redis.zrange("retry", 0, -1))
    assert CANARY.encode() not in collector.raw


def test_a_trace_of_its_own_is_linked_to_that_of_who_pushed(bare_stage: Stage, collector: Collector) -> None:
    stage = bare_stage
    start(stage, collector, "link", "bridge")
    jid = stage.push_job({"class": "TracedJob", "args": [], "traceparent": PUSHED, "retry": True})

    span = collector.of(jid)
    assert span["links"] == [TRACE]
    assert (span["trace"] != TRACE, span["parent"]) == (True, "")
    assert ruby_trace(stage, jid)[:52] == f"00-{span['trace']}-{span['id']}"
    assert logged_trace(stage, jid) == {span["trace"]}


def test_without_tracing_the_trace_of_the_push_reaches_ruby_and_the_logs(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.start_sidecar()
    stage.start_worker(env={"BRIDGE_LOG_FORMAT": "json"})
    jid = stage.push_job(
        {"class": "TracedJob", "args": [], "traceparent": PUSHED, "correlation_id": "request-1"}
    )
    assert ruby_trace(stage, jid) == PUSHED
    assert logged_trace(stage, jid) == {TRACE}
    assert _lines(stage, jid, "done")[0]["ctx"]["correlation_id"] == "request-1"
    assert stage.sidecar is not None
    expected = f"jid={jid} correlation_id=request-1 trace_id={TRACE}"
    wait_for(lambda: expected in stage.sidecar.process.log, "the sidecar's line")
