"""What a real worker and a real sidecar publish is what docs/metrics.md says, and valid to Prometheus."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.probes import get
from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.unit.test_metric_names import named_on_the_page

#: Only where a limit is declared or a class moves: tests/conformance/test_web_tab.py.
OPTIONAL = ("bridge_limit_", "bridge_jobs_parked", "bridge_move_")
#: Of prometheus_client, and not on the page one by one.
OTHERS = ("process_", "python_")


def sidecar_page(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n")
        parts = []
        while chunk := client.recv(65536):
            parts.append(chunk)
    return b"".join(parts).decode().partition("\r\n\r\n")[2]


@pytest.fixture(scope="module")
def pages(shared_stage: Stage) -> dict[str, str]:
    """Both pages after one job of each kind."""
    stage = shared_stage
    stage.reset()
    for name in ("EchoJob", "FailJob", "NativeEchoJob"):
        stage.push_job({"class": name, "retry": False, "args": []})
    stage.wait_counters(3, 1)
    assert stage.worker is not None
    assert stage.sidecar is not None
    worker, path = stage.worker, stage.sidecar.socket
    wait_for(lambda: "bridge_queue_depth{" in get(worker, "/metrics")[1], "the queues' series")
    return {"worker": get(worker, "/metrics")[1], "sidecar": sidecar_page(path)}


YABEDAS = re.compile(r"sidekiq_[a-z_]+_count\b")


def test_pushes_and_the_sets_show_under_the_names_of_yabeda(shared_stage: Stage) -> None:
    stage = shared_stage
    stage.reset()
    worker = stage.worker
    assert worker is not None
    before = samples(get(worker, "/metrics")[1])

    stage.push_job({"class": "NativePushJob", "args": ["EchoJob"]})
    stage.push_job({"class": "FailJob", "retry": True, "args": []})
    stage.push_job({"class": "FailJob", "retry": 0, "args": []})
    stage.redis.zadd("schedule", {"{}": 4e9})
    stage.wait_counters(4, 2)

    after = samples(get(worker, "/metrics")[1])
    pushed = 'sidekiq_jobs_enqueued_total{queue="default",worker="EchoJob"}'
    assert after[pushed] - before.get(pushed, 0.0) == 1.0
    sizes = ("retry", "scheduled", "dead")
    assert [after[f"sidekiq_jobs_{name}_count"] for name in sizes] == [1.0, 1.0, 1.0]
    assert after["sidekiq_active_processes"] == 1.0
    assert after["sidekiq_active_workers_count"] >= 0.0  # as of the last beat
    for ours, yabedas in (("depth", "jobs_waiting_count"), ("latency_seconds", "queue_latency")):
        queue = '{queue="default"}'
        assert after[f"bridge_queue_{ours}{queue}"] == after[f"sidekiq_{yabedas}{queue}"] == 0.0


def samples(page: str) -> dict[str, float]:
    """Value by name and labels."""
    lines = [line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def names(page: str) -> set[str]:
    found = set()
    for family in text_string_to_metric_families(page):
        if not family.name.startswith(OTHERS):
            found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return found


def test_the_worker_publishes_the_series_of_the_page(pages: dict[str, str]) -> None:
    documented = {name for name in named_on_the_page() if not name.startswith(("bridge_sidecar_", *OTHERS))}
    expected = {name for name in documented if not name.startswith(OPTIONAL)}
    assert names(pages["worker"]) == expected | {"bridge_sidecar_up", "bridge_sidecar_rejected"}


def test_the_sidecar_publishes_the_series_of_the_page(pages: dict[str, str]) -> None:
    documented = {name for name in named_on_the_page() if name.startswith("bridge_sidecar_")}
    assert names(pages["sidecar"]) == documented - {"bridge_sidecar_up", "bridge_sidecar_rejected"}


@pytest.mark.parametrize("side", ["worker", "sidecar"])
def test_prometheus_finds_no_fault_with_the_page(pages: dict[str, str], side: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; the other tests have parsed the page")
    # The library's rules forbid these names to gauges; yabeda-sidekiq's dashboards ask for them.
    page = "".join(line for line in pages[side].splitlines(True) if not YABEDAS.search(line))
    answer = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=30
    )
    assert (answer.returncode, answer.stderr) == (0, "")
