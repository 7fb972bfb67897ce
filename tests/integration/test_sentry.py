"""Sentry's headers in a payload reach both SDKs: Ruby's in the job's hash, Python's in the message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_for

TRACE = "771a43a4192642f0b136d5159a501700"
HEADERS = {
    "sentry-trace": f"{TRACE}-1234567890abcdef-1",
    "baggage": f"sentry-trace_id={TRACE},sentry-sampled=true",
}


@pytest.mark.parametrize(
    ("pool", "imported"),
    # Imported late: the bridge had loaded Celery's consumer, which took the function that Sentry replaces.
    [("bridge", False), ("prefork", False), ("bridge", True), ("threads", True)],
)
def test_a_native_task_goes_on_with_the_trace_of_sentry(
    bare_stage: Stage, tmp_path: Path, pool: str, imported: bool
) -> None:
    stage, file = bare_stage, tmp_path / "sentry"
    file.touch()
    env = {"TEST_SENTRY_FILE": str(file), "BRIDGE_POOL": pool}
    if imported:
        stage.start_worker(module="bridge", env={**env, "BRIDGE_IMPORTS": "tests.support.sentry_tasks"})
    else:
        stage.start_worker(module="tests.support.sentry_tasks", env=env)
    fields = {"class": "NativeFailJob", "args": [], "retry": True, "trace_propagation_headers": HEADERS}
    stage.push_job(fields)

    def traces() -> set[tuple[str, str]]:
        found = [json.loads(line) for line in file.read_text().splitlines()]
        return {(each["trace"]["trace_id"], each["trace"].get("parent_span_id", "")) for each in found}

    wait_for(traces, "Sentry to be told", 30)
    assert (TRACE, "1234567890abcdef") in traces()
    # Sentry hears of the failure before the job is settled.
    wait_for(lambda: stage.redis.zcard("retry") == 1, "the job to be in retry")
    assert json.loads(stage.redis.zrange("retry", 0, 0)[0])["trace_propagation_headers"] == HEADERS


@pytest.mark.parametrize("headers", ["text", 7, {"sentry-trace": 1, "callbacks": "x"}, []])
def test_what_is_no_header_of_sentry_changes_nothing(bare_stage: Stage, headers: object) -> None:
    stage = bare_stage
    stage.start_worker()
    jid = stage.push_job({"class": "NativeEchoJob", "args": [1], "trace_propagation_headers": headers})
    stage.ledger.wait_for("done", jid)
