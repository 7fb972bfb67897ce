"""Prometheus among the containers: what it sees, and how soon an incident shows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from scripts.grafana import dashboard
from tests.compose.stack import ROOT, Stack

pytestmark = pytest.mark.timeout(600)

MINUTE = 60.0
#: Empty as long as nothing goes wrong.
QUIET = ("rejected < 0", "refused_total", "pool_resident", "ALERTS")


def ask(stack: Stack, path: str, **query: str) -> Any:
    reply = requests.get(f"{stack.prometheus_url}/api/v1/{path}", params=query, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.json()["data"]


def vector(stack: Stack, expression: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(stack, "query", query=expression)["result"]
    return found


def shown(stack: Stack, expression: str) -> list[dict[str, Any]]:
    """What a panel of the last ten minutes draws: some series are there only while a job runs."""
    now = time.time()
    query = {"query": dashboard.plain(expression), "start": str(now - 600), "end": str(now), "step": "5"}
    found: list[dict[str, Any]] = ask(stack, "query_range", **query)["result"]
    return found


def firing(stack: Stack) -> set[str]:
    alerts = ask(stack, "alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def wait(condition: Callable[[], object], what: str, seconds: float = 2 * MINUTE) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(1)
    return time.monotonic() - began


def test_both_workers_and_both_sidecars_are_scraped(stack: Stack) -> None:
    stack.wait_healthy()
    for job, count in (("bridge-worker", 4), ("bridge-sidecar", 2)):
        up = f'up{{job="{job}"}} == 1'
        wait(lambda up=up, count=count: len(vector(stack, up)) == count, f"{count} of {job}")


def test_every_panel_of_the_dashboard_has_data(stack: Stack) -> None:
    stack.wait_ended(stack.enqueue(size=5))
    board = json.loads((ROOT / "deploy/grafana/dashboards/sidekiq-bridge.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    expected = [query for query in queries if not any(word in query for word in QUIET)]
    for query in expected:
        wait(lambda query=query: shown(stack, query), query)
    for query in queries:
        shown(stack, query)


def test_sidecars_that_are_gone_show_within_a_minute(stack: Stack) -> None:
    stack.wait_healthy()
    wait(lambda: not firing(stack) & {"BridgeSidecarDown", "BridgeNoSidecar"}, "silence", 4 * MINUTE)
    stack.compose("kill", "sidecar-1")
    # One is enough to work: what is said is that the other is gone.
    assert wait(lambda: "BridgeSidecarDown" in firing(stack), "the alert") < MINUTE
    assert "BridgeNoSidecar" not in firing(stack)
    stack.compose("kill", "sidecar-2")
    assert wait(lambda: "BridgeNoSidecar" in firing(stack), "the alert") < MINUTE
    stack.compose("start", "sidecar-1", "sidecar-2")
    stack.wait_healthy()
    wait(lambda: not firing(stack) & {"BridgeSidecarDown", "BridgeNoSidecar"}, "silence", 4 * MINUTE)


def test_prometheus_keeps_its_data(stack: Stack) -> None:
    known = "count_over_time(up[1h])"
    before = max(float(series["value"][1]) for series in vector(stack, known))
    (container,) = stack.containers("prometheus")
    stack.kill_and_start(container["Name"])
    stack.wait_healthy()
    assert max(float(series["value"][1]) for series in vector(stack, known)) >= before
