"""What a worker says of itself over HTTP."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import wait_for
from tests.support.worker_process import WorkerProcess


def port_of(worker: WorkerProcess) -> int:
    found = wait_for(lambda: re.search(r"/health on http://127\.0\.0\.1:(\d+)", worker.log), "the port")
    assert found is not None
    return int(found[1])


def get(worker: WorkerProcess, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port_of(worker)}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def status(worker: WorkerProcess, probe: str) -> int:
    return get(worker, f"/health/{probe}")[0]


def health(worker: WorkerProcess) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(worker, "/health")[1])
    return found


def samples(process: WorkerProcess, /, **labels: str) -> dict[str, float]:
    """Samples by name, of those that carry these labels."""
    families = text_string_to_metric_families(get(process, "/metrics")[1])
    wanted = labels.items()
    return {s.name: s.value for family in families for s in family.samples if wanted <= s.labels.items()}


def executed(worker: WorkerProcess) -> dict[str, float]:
    families = text_string_to_metric_families(get(worker, "/metrics")[1])
    found = (s for family in families for s in family.samples if s.name == "sidekiq_jobs_executed_total")
    return {sample.labels["worker"]: sample.value for sample in found}
