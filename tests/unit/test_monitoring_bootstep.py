from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter

from bridge.monitoring.bootstep import metrics_page


@pytest.mark.parametrize("version", ["x", "1.0.0-", "", "9" * 5000, "1.0.0 0"])
@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
def test_an_accept_header_that_cannot_be_read_is_refused_in_a_line(kind: str, version: str) -> None:
    """Each scrape with a broken version wrote a traceback."""
    registry = CollectorRegistry()
    Counter("jobs", "Jobs.", registry=registry).inc()

    reply = metrics_page(registry, f"{kind};version={version}")

    assert reply.status in (200, 406)
    assert metrics_page(registry, "").status == 200
    assert b"jobs_total 1.0" in metrics_page(registry, kind).body
    assert metrics_page(registry, f"{kind};version=x").status == 406
