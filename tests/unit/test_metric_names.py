from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
MONITORING = ROOT / "bridge/monitoring"
SIDECAR = ROOT / "sidecar/lib/sidekiq_bridge/sidecar/monitoring/metrics.rb"

#: The library's own series, which the code does not spell out.
LIBRARY = {"process_resident_memory_bytes"}
NAME = re.compile(r'"((?:bridge|sidekiq)_[a-z_]+)"')
COUNTER = re.compile(r'CounterMetricFamily\(\s*"([a-z_]+)"')


def named_on_the_page() -> set[str]:
    rows = re.findall(r"^\| `([a-z_]+)` \| (?:counter|gauge|histogram) \|", PAGE, re.M)
    assert len(rows) == len(set(rows)), "a series stands there twice"
    return set(rows)


def named_in_the_code() -> set[str]:
    text = "".join(path.read_text() for path in sorted((MONITORING / "metrics").glob("*.py")))
    counters = set(COUNTER.findall(text)) | set(re.findall(r'"([a-z_]+)": \("[^"]+", lambda t', text))
    counters |= set(re.findall(r'"(bridge_jobs_given_back)": \(', text))
    plain = set(NAME.findall(text)) - counters
    return {f"{name}_total" for name in counters} | plain | set(NAME.findall(SIDECAR.read_text()))


def test_the_page_and_the_code_name_the_same_series() -> None:
    # A difference is mended in docs/metrics.md, by which dashboards and alert rules are written.
    histograms = {"sidekiq_job_runtime_seconds", "sidekiq_job_latency_seconds"}
    found = {name.removesuffix("_total") if name[:-6] in histograms else name for name in named_in_the_code()}
    assert found == named_on_the_page() - LIBRARY


@pytest.mark.parametrize("name", re.findall(r"(?:bridge|sidekiq)_[a-z_]+", PAGE.split("## Alerts")[1]))
def test_an_alert_asks_for_a_series_that_there_is(name: str) -> None:
    assert name in named_on_the_page()
